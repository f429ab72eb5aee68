"""Training log: the finished epochs, the best weights, the checkpoints."""

from pathlib import Path
from typing import Any

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.checkpoints.recovery import Position, positions_in, read_progress
from jaxmed.errors import InputError
from jaxmed.evaluation.predictions import Predictions
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.runtime.sharding import to_host
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.identity import check_identity, flatten
from jaxmed.training.model_selection import best_row, is_over
from jaxmed.training.state import TrainState, beside_weights, restore


class TrainingLog:
    """History of a training, the weights of its best epochs, and its checkpoints.

    Args:
        strategy: that is carried out.
        select: the column that chooses the best epoch.
        identity: all that decides the result, see `jaxmed.training.identity`.
        checkpoints: where it is saved, None for nowhere.

    Attributes:
        history: a dict per finished epoch, with the columns of history.csv.
    """

    def __init__(
        self,
        strategy: Strategy,
        select: str,
        identity: dict[str, Any],
        checkpoints: Checkpoints | None,
    ):
        self.strategy, self.select = strategy, select
        self.history: list[dict] = []
        self._identity, self._checkpoints = identity, checkpoints
        # Weights of the best epochs, of all and of the phase, by epoch.
        self._kept: dict[int, Arrays] = {}
        self._predictions: dict[int, Predictions | None] = {}
        # Of an epoch that a stopped run began: its number, steps done, their seconds.
        self._begun: tuple[int, int, float] | None = None

    @property
    def best(self) -> dict:
        """The best epoch so far: "phase", "epoch", "metric", "value"."""
        row = best_row(self.history, self.select)
        return {
            "phase": row["phase"],
            "epoch": row["epoch"],
            "metric": self.select,
            "value": row[self.select],
        }

    @property
    def next_epoch(self) -> int:
        """The number of the epoch after the finished ones, counted from 1."""
        return len(self.history) + 1

    def rows(self, phase: Phase) -> list[dict]:
        """Return the finished epochs of a phase."""
        return [row for row in self.history if row["phase"] == phase.name]

    def is_over(self, phase: Phase) -> bool:
        """Return whether a phase has run its epochs, or its patience."""
        return is_over(phase, self.rows(phase), self.select)

    def best_weights(self, phase: Phase | None = None) -> Arrays:
        """Return the weights of the best epoch, of a phase or of all."""
        rows = self.rows(phase) if phase else self.history
        return self._kept[best_row(rows, self.select)["epoch"]]

    def best_predictions(self) -> Predictions | None:
        """Return the best epoch's predictions of val; None of one before a resume."""
        return self._predictions.get(self.best["epoch"])

    def steps_done(self, epoch: int) -> tuple[int, float]:
        """Return the steps of an epoch that a stopped run has done, and their seconds.

        Args:
            epoch: counted from 1.
        """
        if self._begun and self._begun[0] == epoch:
            return self._begun[1:]
        return 0, 0.0

    def resume(self, model: Classifier) -> None:
        """Go back to the last good checkpoint, if there is one.

        Raises:
            InputError: the checkpoints are of another training, or all damaged.
        """
        if self._checkpoints is None:
            return
        progress = self._checkpoints.load_progress()
        if progress is None:
            return
        folder = self._checkpoints.folder
        check_progress(progress, self._identity, self.strategy, folder)
        self.history = progress["history"]
        load(model, self._checkpoints.load_weights())
        for epoch in self._best_epochs():
            self._kept[epoch] = self._checkpoints.load_weights(epoch)
        assert self._checkpoints.latest, "there is progress"
        steps = self._checkpoints.latest.steps
        if steps:
            self._begun = self.next_epoch, steps, progress["seconds"]
            return
        # Saved at the end of an epoch, perhaps its phase's: the next one begins with
        # the best weights.
        last = self.history[-1]["phase"]
        phase = next(p for p in self.strategy.phases if p.name == last)
        if self.is_over(phase) and phase.restore_best:
            load(model, self.best_weights(phase))

    def restore(self, phase: Phase, state: TrainState) -> TrainState:
        """Put a resumed phase's optimizer and sums into the state it begins with."""
        begun = self.rows(phase) or self.steps_done(self.next_epoch)[0]
        if self._checkpoints and begun:
            saved = self._checkpoints.load_optimizer(beside_weights(state))
            return restore(state, saved)
        return state

    def record(
        self,
        row: dict,
        weights: Arrays,
        state: TrainState,
        predictions: Predictions | None = None,
    ) -> None:
        """Add a finished epoch to the history, and save it.

        Args:
            row: with the columns of history.csv.
            weights, state: see `save`.
            predictions: of val, if they are those that prediction gives.
        """
        self.history.append(row)
        best = self._best_epochs()
        for epoch in self._kept.keys() - best:
            del self._kept[epoch]
            self._predictions.pop(epoch, None)
        if row["epoch"] in best:
            self._kept[row["epoch"]] = to_host(weights)
            self._predictions[row["epoch"]] = predictions
        self.save(row["phase"], weights, state)

    def save(
        self,
        phase: str,
        weights: Arrays,
        state: TrainState,
        *,
        steps: int = 0,
        seconds: float = 0.0,
    ) -> None:
        """Save a checkpoint: of the history, or of a later epoch's first steps.

        Args:
            phase: the name of the phase at work.
            weights: as of `all_weights`.
            state: its buffers may be given away as soon as this returns.
            steps: of the epoch after those of the history.
            seconds: that they took.
        """
        if not self._checkpoints:
            return
        phases = [phase.name for phase in self.strategy.phases]
        progress: dict[str, Any] = {
            "history": self.history,
            "best": self.best if self.history else None,
            "identity": self._identity,
            "phase": phases.index(phase),
            "within": steps > 0,
            "seconds": seconds,
        }
        self._checkpoints.save(
            Position(len(self.history), steps),
            weights,
            beside_weights(state),
            progress,
            keep=self._best_epochs(),
        )

    def _best_epochs(self) -> set[int]:
        """Return the best epoch of all, and of the phase that the last one is of."""
        if not self.history:
            return set()
        phase = [r for r in self.history if r["phase"] == self.history[-1]["phase"]]
        return {best_row(rows, self.select)["epoch"] for rows in (self.history, phase)}


def check_extension(folder: Path, strategy: Strategy) -> None:
    """Check that a finished training can go on with a strategy of more epochs.

    Args:
        folder: its checkpoints.
        strategy: what it is to carry out, all else being as it was.

    Raises:
        InputError: there are no checkpoints, or another strategy's.
    """
    positions = positions_in(folder) if folder.is_dir() else []
    if not positions:
        raise InputError(f"There is no checkpoint in {folder} to go on from.")
    progress = read_progress(folder, positions[-1])
    phases = [flatten(phase) for phase in strategy.phases]
    identity = progress["identity"] | {"phases": phases}
    check_progress(progress, identity, strategy, folder)


def check_progress(
    progress: dict[str, Any], identity: dict[str, Any], strategy: Strategy, folder: Path
) -> None:
    """Check that a training may resume from the progress that a checkpoint holds.

    Args:
        progress: of the checkpoint.
        identity: of the training that is to resume.
        strategy: its strategy.
        folder: the checkpoints.

    Raises:
        InputError: it would come to another state by itself.
    """
    then, number = progress["identity"], progress["phase"]
    name = then["phases"][number]["name"]
    rows = [row for row in progress["history"] if row["phase"] == name]
    check_identity(
        then,
        identity,
        strategy,
        begun=number + 1,
        epochs=len(rows) + (1 if progress["within"] else 0),
        where=folder,
    )
