"""How far a training is: the finished epochs, the best weights, the checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.checkpoints.recovery import Position, positions_in, read_progress
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.runtime.sharding import to_host
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.identity import check_identity, flatten
from jaxmed.training.model_selection import best_row, is_over
from jaxmed.training.state import TrainState, beside_weights, restore


@dataclass(kw_only=True)
class Journal:
    """What a training remembers, in memory and in its checkpoints.

    Attributes:
        strategy: that is carried out.
        select: the column that chooses the best epoch.
        identify: describes what decides the result, see `jaxmed.training.identity`.
        saved: the checkpoints, None without.
        history: a dict per finished epoch, with the columns of history.csv.
        phase: the number of the phase at work, from 0.
        done: optimizer steps of the next epoch that a stopped run has done.
        seconds: that they took.
    """

    strategy: Strategy
    select: str
    identify: Callable[[], dict[str, Any]]
    saved: Checkpoints | None
    history: list[dict] = field(default_factory=list)
    phase: int = 0
    done: int = 0
    seconds: float = 0.0
    _identity: dict[str, Any] = field(default_factory=dict)
    # Weights of the best epochs, of all and of the phase, by epoch.
    _kept: dict[int, Arrays] = field(default_factory=dict)

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

    def rows(self, phase: Phase) -> list[dict]:
        """Returns the finished epochs of a phase."""
        return [row for row in self.history if row["phase"] == phase.name]

    def is_over(self, phase: Phase) -> bool:
        """Tells whether a phase has run its epochs, or its patience."""
        return is_over(phase, self.rows(phase), self.select)

    def best_weights(self, phase: Phase | None = None) -> Arrays:
        """Returns the weights of the best epoch, of a phase or of all."""
        rows = self.rows(phase) if phase else self.history
        return self._kept[best_row(rows, self.select)["epoch"]]

    def resume(self, model: Classifier) -> None:
        """Goes back to the last good checkpoint, if there is one.

        Raises:
            InputError: the checkpoints are of another training, or all damaged.
        """
        if self.saved is None:
            return
        self._identity = self.identify()
        found = self.saved.load_progress()
        if found is None:
            return
        check_progress(found, self._identity, self.strategy, self.saved.folder)
        self.history = found["history"]
        load(model, self.saved.load_weights())
        for epoch in self._best_epochs():
            self._kept[epoch] = self.saved.load_weights(epoch)
        assert self.saved.latest, "there is progress"
        self.done, self.seconds = self.saved.latest.steps, found["seconds"]
        if self.done:
            return
        last = self.history[-1]["phase"]
        phase = next(p for p in self.strategy.phases if p.name == last)
        if self.is_over(phase) and phase.restore_best:
            load(model, self.best_weights(phase))

    def restore(self, phase: Phase, state: TrainState) -> TrainState:
        """Puts what was saved beside the weights into the state a phase begins with."""
        if self.saved and (self.rows(phase) or self.done):
            return restore(state, self.saved.load_optimizer(beside_weights(state)))
        return state

    def enter(self, row: dict, weights: Arrays, state: TrainState) -> None:
        """Enters a finished epoch in the history and saves it."""
        self.history.append(row)
        best = self._best_epochs()
        for epoch in self._kept.keys() - best:
            del self._kept[epoch]
        if row["epoch"] in best:
            self._kept[row["epoch"]] = to_host(weights)
        self.save(weights, state)

    def save(
        self, weights: Arrays, state: TrainState, *, done: int = 0, seconds: float = 0.0
    ) -> None:
        """Saves a state.

        Args:
            weights: as of `all_weights`.
            state: its buffers may be given away as soon as this returns.
            done: steps of the epoch after those of the history.
            seconds: that they took.
        """
        if not self.saved:
            return
        progress: dict[str, Any] = {
            "history": self.history,
            "best": self.best if self.history else None,
            "identity": self._identity,
            "phase": self.phase,
            "within": done > 0,
            "seconds": seconds,
        }
        self.saved.save(
            Position(len(self.history), done),
            weights,
            beside_weights(state),
            progress,
            keep=self._best_epochs(),
        )

    def _best_epochs(self) -> set[int]:
        """The best epoch of all, and of the phase that the last one is of."""
        if not self.history:
            return set()
        phase = [r for r in self.history if r["phase"] == self.history[-1]["phase"]]
        return {best_row(rows, self.select)["epoch"] for rows in (self.history, phase)}


def check_extension(folder: Path, strategy: Strategy) -> None:
    """Checks that a finished training can go on with a strategy of more epochs.

    Args:
        folder: its checkpoints.
        strategy: what it is to carry out, all else being as it was.

    Raises:
        InputError: there are no checkpoints, or another strategy's.
    """
    positions = positions_in(folder) if folder.is_dir() else []
    if not positions:
        raise InputError(f"There is no checkpoint in {folder} to go on from.")
    found = read_progress(folder, positions[-1])
    phases = [flatten(phase) for phase in strategy.phases]
    check_progress(found, found["identity"] | {"phases": phases}, strategy, folder)


def check_progress(
    found: dict[str, Any], identity: dict[str, Any], strategy: Strategy, where: Path
) -> None:
    """Checks that a training may go on from what a checkpoint says of its own.

    Args:
        found: the progress in the checkpoint.
        identity: of the training that is to go on.
        strategy: its strategy.
        where: the checkpoints.

    Raises:
        InputError: it would come to another state by itself.
    """
    then, number = found["identity"], found["phase"]
    name = then["phases"][number]["name"]
    rows = [row for row in found["history"] if row["phase"] == name]
    check_identity(
        then,
        identity,
        strategy,
        begun=number + 1,
        epochs=len(rows) + (1 if found["within"] else 0),
        where=where,
    )
