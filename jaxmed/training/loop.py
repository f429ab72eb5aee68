"""Phases of epochs, each epoch followed by validation and a checkpoint."""

import functools
import math
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.augment import Augmentation
from jaxmed.data.dataset import Dataset
from jaxmed.data.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.progress import progress
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.batches import draw_epoch
from jaxmed.training.checkpoint import Checkpoints
from jaxmed.training.epoch import train_epoch
from jaxmed.training.feed import create_feed
from jaxmed.training.mixing import Mixing
from jaxmed.training.objective import Loss, image_hits, mean_loss, probabilities
from jaxmed.training.predict import (
    as_predictions,
    compute_logits,
    eval_parts,
    evaluation_batch,
)
from jaxmed.training.selection import (
    best_row,
    check_defined,
    check_history,
    is_over,
    plateau_factor,
    validation_scores,
)
from jaxmed.training.sharding import replicate, replicated, to_host
from jaxmed.training.state import (
    StepPlan,
    TrainState,
    all_weights,
    begin_phase,
    beside_weights,
    restore,
)


@dataclass(kw_only=True)
class Loop:
    """One training: its arguments, which are `fit`'s, and how far it is.

    Attributes:
        history: a dict per finished epoch, with the columns of history.csv.
    """

    model: Classifier
    data: Dataset
    strategy: Strategy
    preprocessing: Preprocessing
    loss: Loss
    augmentation: Augmentation
    mixing: Mixing
    sampling: str
    batch_size: int
    accumulate: int
    ema: float
    seed: int
    select: str
    feed: str
    saved: Checkpoints | None
    mesh: Mesh

    def __post_init__(self) -> None:
        self.history: list[dict] = []
        # Weights of the best epochs, of all and of the phase, by epoch.
        self._kept: dict[int, Arrays] = {}

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

    def run(self) -> None:
        """Trains to the end; the model is left with the best epoch's weights."""
        self._resume()
        train = self.data.train
        self._feed = create_feed(
            self.feed,
            train.images,
            train.labels,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            mesh=self.mesh,
        )
        for number, phase in enumerate(self.strategy.phases):
            if not is_over(phase, self._rows(phase), self.select):
                self._run_phase(number, phase)
        load(self.model, self._kept[self.best["epoch"]])
        eval_parts(self.model)

    def _rows(self, phase: Phase) -> list[dict]:
        """The finished epochs of a phase."""
        return [row for row in self.history if row["phase"] == phase.name]

    def _resume(self) -> None:
        """Goes back to the last checkpoint, if there is one."""
        found = self.saved.load_progress() if self.saved else None
        if self.saved is None or found is None:
            return
        self.history, chosen_by = found["history"], found["best"]["metric"]
        if chosen_by != self.select:
            raise InputError(
                f"The checkpoints chose the best epoch by {chosen_by}, not by "
                f"{self.select}. Use another folder, or {chosen_by}."
            )
        check_history(self.strategy, self.history, self.select)
        try:
            load(self.model, self.saved.load_weights())
        except ValueError as error:
            raise InputError(
                f"The checkpoints are not of {self.model.architecture} with this "
                f"head. {error}"
            ) from error
        for epoch in self._best_epochs():
            self._kept[epoch] = self.saved.load_weights(epoch)
        last = self.history[-1]["phase"]
        phase = next(p for p in self.strategy.phases if p.name == last)
        rows = self._rows(phase)
        if is_over(phase, rows, self.select) and phase.restore_best:
            load(self.model, self._kept[best_row(rows, self.select)["epoch"]])

    def _best_epochs(self) -> set[int]:
        """The best epoch of all, and of the phase that the last one is of."""
        phase = [r for r in self.history if r["phase"] == self.history[-1]["phase"]]
        return {best_row(rows, self.select)["epoch"] for rows in (self.history, phase)}

    def _plan(self, phase: Phase) -> StepPlan:
        images = self.batch_size * self.accumulate
        return StepPlan(
            phase=phase,
            preprocessing=self.preprocessing,
            task=self.data.task,
            loss=self.loss,
            augmentation=self.augmentation,
            mixing=self.mixing,
            accumulate=self.accumulate,
            ema=self.ema,
            steps_per_epoch=math.ceil(len(self.data.train) / images),
        )

    def _run_phase(self, number: int, phase: Phase) -> None:
        """Runs what is left of a phase."""
        plan = self._plan(phase)
        definition, state, frozen = begin_phase(self.model, plan)
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)
        rows = self._rows(phase)
        if self.saved and rows:
            state = restore(state, self.saved.load_optimizer(beside_weights(state)))
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        step = functools.partial(
            self._feed.program(definition, plan),
            frozen=frozen,
            key=jax.device_put(key, replicated(self.mesh)),
        )
        definition = eval_parts(self.model).definition
        weights = all_weights(state, frozen)
        while not is_over(phase, rows, self.select):
            epoch = len(self.history) + 1
            scale = plateau_factor(phase, rows)
            label = f"{phase.name} {len(rows) + 1}/{phase.epochs}"
            count, started = len(self.data.train), time.perf_counter()
            with progress(label, count, unit="images") as advance:
                if not rows:
                    advance(0, step="being compiled")
                state, trained = train_epoch(
                    step,
                    state,
                    self._feed,
                    self._order(epoch),
                    scale=np.float32(scale),
                    mesh=self.mesh,
                    advance=advance,
                )
                _check_finite(trained, epoch)
                seconds = time.perf_counter() - started
                weights = all_weights(state, frozen)
                validated = self._validate(definition, weights)
                advance(0, **trained, **validated)
            row = {
                "phase": phase.name,
                "epoch": epoch,
                "step": int(state.step),
                **trained,
                **validated,
                **_rates(plan, int(state.step) - 1, scale),
                "seconds": time.perf_counter() - started,
                "images_per_second": count / seconds,
            }
            check_defined(phase, row, self.select)
            self._keep(row, weights, state)
            rows = self._rows(phase)
        if phase.restore_best:
            load(self.model, self._kept[best_row(rows, self.select)["epoch"]])
        else:
            load(self.model, to_host(weights))

    def _order(self, epoch: int) -> np.ndarray:
        """Draws the images of an epoch."""
        labels = self.data.train.labels
        return draw_epoch(labels, self.sampling, seed=self.seed, epoch=epoch)

    def _validate(self, definition: Any, weights: Arrays) -> dict:
        val, task = self.data.val, self.data.task
        logits = compute_logits(
            definition,
            weights,
            val.images,
            preprocessing=self.preprocessing,
            mesh=self.mesh,
            batch_size=evaluation_batch(self.data),
        )
        hits = np.asarray(image_hits(logits, val.labels, task))
        predictions = as_predictions(self.data, "val", probabilities(logits, task))
        return {
            "val_loss": mean_loss(logits, val.labels, task, self.loss),
            "val_accuracy": float(hits.mean(dtype=np.float64)),
            **validation_scores(predictions, self.select),
        }

    def _keep(self, row: dict, weights: Arrays, state: TrainState) -> None:
        """Enters a finished epoch in the history and saves it."""
        self.history.append(row)
        best = self._best_epochs()
        for epoch in self._kept.keys() - best:
            del self._kept[epoch]
        if row["epoch"] in best:
            self._kept[row["epoch"]] = to_host(weights)
        if self.saved:
            self.saved.save(
                row["epoch"],
                weights,
                beside_weights(state),
                {"history": self.history, "best": self.best},
                keep=best,
            )


def _check_finite(trained: dict[str, float], epoch: int) -> None:
    if not math.isfinite(trained["train_loss"]):
        raise InputError(
            f"The training loss became {trained['train_loss']} in epoch {epoch}. "
            "A lower learning rate usually helps."
        )


def _rates(plan: StepPlan, step: int, scale: float) -> dict[str, float]:
    """Returns the groups' learning rates at a step, by column of the history."""
    return {
        f"lr_{group.name}": scale * plan.phase.rate(group, step, plan.steps_per_epoch)
        for group in plan.phase.groups
    }
