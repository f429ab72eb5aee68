"""Phases of epochs, each epoch followed by validation and a checkpoint."""

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.data.augment import Augmentation
from jaxmed.data.dataset import Dataset
from jaxmed.data.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.interrupts import postponed
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.progress import Advance, progress
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.batches import draw_epoch
from jaxmed.training.checkpoint import Checkpoints
from jaxmed.training.divergence import (
    Diverged,
    check_validation,
    diverged_at,
)
from jaxmed.training.epoch import train_epoch
from jaxmed.training.feed import ResidentFeed
from jaxmed.training.interim import Interim, stop_if_asked
from jaxmed.training.mixing import Mixing
from jaxmed.training.objective import Loss, image_hits, mean_loss, probabilities
from jaxmed.training.predict import as_predictions, compute_logits, eval_parts
from jaxmed.training.recovery import Position
from jaxmed.training.selection import (
    best_row,
    check_defined,
    check_history,
    check_order,
    is_over,
    plateau_factor,
    validation_scores,
)
from jaxmed.training.sharding import replicate, replicated, to_host
from jaxmed.training.state import (
    Frozen,
    Images,
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
    saved: Checkpoints | None
    checkpoint_steps: int
    mesh: Mesh

    def __post_init__(self) -> None:
        self.history: list[dict] = []
        # Weights of the best epochs, of all and of the phase, by epoch.
        self._kept: dict[int, Arrays] = {}
        # Of the epoch that was begun: steps done, and the seconds they took.
        self._begun, self._seconds = 0, 0.0

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
        with postponed():
            self._run()

    def _run(self) -> None:
        self._resume()
        train = self.data.train
        self._feed = ResidentFeed(
            images=replicate(Images(train.images, train.labels), self.mesh),
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
        self.history, chosen_by = found["history"], found["select"]
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
        check_order(found["order"], self._order_settings())
        for epoch in self._best_epochs():
            self._kept[epoch] = self.saved.load_weights(epoch)
        assert self.saved.latest, "there is progress"
        self._begun, self._seconds = self.saved.latest.steps, found["seconds"]
        if self._begun:
            return
        last = self.history[-1]["phase"]
        phase = next(p for p in self.strategy.phases if p.name == last)
        rows = self._rows(phase)
        if is_over(phase, rows, self.select) and phase.restore_best:
            load(self.model, self._kept[best_row(rows, self.select)["epoch"]])

    def _best_epochs(self) -> set[int]:
        """The best epoch of all, and of the phase that the last one is of."""
        if not self.history:
            return set()
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
        rows = self._rows(phase)
        if self.saved and (rows or self._begun):
            state = restore(state, self.saved.load_optimizer(beside_weights(state)))
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)
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
            count, started = len(self.data.train), time.perf_counter() - self._seconds
            with progress(label, count, unit="images") as advance:
                if not rows:
                    advance(0, step="being compiled")
                state, trained = self._train_epoch(
                    plan, step, state, frozen, scale, started, advance
                )
                seconds = time.perf_counter() - started
                weights = all_weights(state, frozen)
                validated = self._validate(definition, weights)
                advance(0, **trained, **validated)
            check_validation(validated["val_loss"], epoch)
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
            stop_if_asked(self.saved)
            rows = self._rows(phase)
        if phase.restore_best:
            load(self.model, self._kept[best_row(rows, self.select)["epoch"]])
        else:
            load(self.model, to_host(weights))

    def _train_epoch(
        self,
        plan: StepPlan,
        step: Callable[..., TrainState],
        state: TrainState,
        frozen: Frozen,
        scale: float,
        started: float,
        advance: Advance,
    ) -> tuple[TrainState, dict[str, float]]:
        """Trains an epoch, or what a stopped run has left of it."""
        epoch, done = len(self.history) + 1, self._begun
        self._begun, self._seconds = 0, 0.0
        labels, images = self.data.train.labels, self.batch_size * self.accumulate
        order = draw_epoch(labels, self.sampling, seed=self.seed, epoch=epoch)
        advance(min(done * images, len(order)))

        def save(state: TrainState, done: int) -> None:
            weights, seconds = all_weights(state, frozen), time.perf_counter() - started
            self._save(Position(epoch - 1, done), weights, state, seconds)

        try:
            return train_epoch(
                step,
                state,
                self._feed,
                order,
                scale=np.float32(scale),
                mesh=self.mesh,
                advance=advance,
                start=done,
                after=Interim(
                    saved=self.saved,
                    save=save,
                    every=self.checkpoint_steps,
                    steps=plan.steps_per_epoch,
                    done=done,
                ),
            )
        except Diverged as diverged:
            where = diverged.step % plan.steps_per_epoch
            raise diverged_at(
                where, epoch, order[where * images :][:images], self.data.train.ids,
                self.saved,
            ) from None  # fmt: skip

    def _validate(self, definition: Any, weights: Arrays) -> dict:
        val, task = self.data.val, self.data.task
        logits = compute_logits(
            definition,
            weights,
            val.images,
            preprocessing=self.preprocessing,
            mesh=self.mesh,
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
        self._save(Position(row["epoch"]), weights, state, 0.0)

    def _save(
        self, position: Position, weights: Arrays, state: TrainState, seconds: float
    ) -> None:
        """Saves a state, so many seconds after its epoch began."""
        if not self.saved:
            return
        progress = {
            "history": self.history,
            "select": self.select,
            "best": self.best if self.history else None,
            "order": self._order_settings(),
            "seconds": seconds,
        }
        beside = beside_weights(state)
        self.saved.save(position, weights, beside, progress, keep=self._best_epochs())

    def _order_settings(self) -> dict[str, int | str]:
        """Returns what decides which images a step sees."""
        return {
            "seed": self.seed,
            "sampling": self.sampling,
            "batch_size": self.batch_size,
            "accumulate": self.accumulate,
            "images": len(self.data.train),
        }


def _rates(plan: StepPlan, step: int, scale: float) -> dict[str, float]:
    """Returns the groups' learning rates at a step, by column of the history."""
    return {
        f"lr_{group.name}": scale * plan.phase.rate(group, step, plan.steps_per_epoch)
        for group in plan.phase.groups
    }
