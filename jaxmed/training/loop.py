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
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.progress import Advance, progress
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.batches import draw_epoch, windows
from jaxmed.training.cache_fill import cached_inputs
from jaxmed.training.cache_plan import CacheSettings
from jaxmed.training.checkpoint import Checkpoints
from jaxmed.training.inputs import Inputs
from jaxmed.training.mixing import Mixing
from jaxmed.training.objective import Loss, image_hits, mean_loss, probabilities
from jaxmed.training.predict import as_predictions, compute_logits, eval_parts
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
    Images,
    StepPlan,
    TrainState,
    all_weights,
    begin_phase,
    beside_weights,
    restore,
    zero_totals,
)
from jaxmed.training.step import compiled_train_step

# Seconds between two looks at the running totals; a look waits for the device.
LOOK_INTERVAL = 0.5


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
    mesh: Mesh
    cache: CacheSettings

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
        images = replicate(Images(train.images, train.labels), self.mesh)
        self._images = Inputs(train=images, val=self.data.val.images)
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

    def _inputs(self, phase: Phase) -> Inputs:
        """Returns the images, or what enters the first stage that the phase trains."""
        found = cached_inputs(
            self.model,
            phase,
            self.data,
            preprocessing=self.preprocessing,
            augmentation=self.augmentation,
            mixed=bool(self.mixing),
            settings=self.cache,
            seed=self.seed,
            mesh=self.mesh,
        )
        return found or self._images

    def _plan(self, phase: Phase, entry: str | None) -> StepPlan:
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
            entry=entry,
        )

    def _run_phase(self, number: int, phase: Phase) -> None:
        """Runs what is left of a phase."""
        started = time.perf_counter()
        inputs = self._inputs(phase)
        spent = time.perf_counter() - started
        plan = self._plan(phase, inputs.entry)
        definition, state, frozen = begin_phase(self.model, plan)
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)
        rows = self._rows(phase)
        if self.saved and rows:
            state = restore(state, self.saved.load_optimizer(beside_weights(state)))
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        step = functools.partial(
            compiled_train_step(definition, plan, self.mesh),
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
                state, trained = self._train_epoch(
                    step, state, inputs, epoch, scale, advance
                )
                seconds = time.perf_counter() - started
                weights = all_weights(state, frozen)
                validated = self._validate(definition, weights, inputs)
                advance(0, **trained, **validated)
            row = {
                "phase": phase.name,
                "epoch": epoch,
                "step": int(state.step),
                **trained,
                **validated,
                **_rates(plan, int(state.step) - 1, scale),
                "seconds": time.perf_counter() - started + spent,
                "images_per_second": count / seconds,
            }
            spent = 0.0
            check_defined(phase, row, self.select)
            self._keep(row, weights, state)
            rows = self._rows(phase)
        if phase.restore_best:
            load(self.model, self._kept[best_row(rows, self.select)["epoch"]])
        else:
            load(self.model, to_host(weights))

    def _train_epoch(
        self,
        step: Callable,
        state: TrainState,
        inputs: Inputs,
        epoch: int,
        scale: float,
        advance: Advance,
    ) -> tuple[TrainState, dict]:
        state = state._replace(totals=replicate(zero_totals(), self.mesh))
        labels = self.data.train.labels
        order = draw_epoch(labels, self.sampling, seed=self.seed, epoch=epoch)
        order = inputs.rows(order, seed=self.seed, epoch=epoch)
        looked, pending = time.monotonic(), 0
        for indices, mask in windows(
            order, self.batch_size, self.mesh.size, self.accumulate
        ):
            images, indices = inputs.take(indices)
            state = step(
                state,
                images=images,
                indices=indices,
                mask=mask,
                scale=np.float32(scale),
            )
            pending += int(mask.sum())
            if time.monotonic() - looked > LOOK_INTERVAL:
                advance(pending, **_averages(state))
                looked, pending = time.monotonic(), 0
        trained = _averages(state)
        advance(pending, **trained)
        if not math.isfinite(trained["train_loss"]):
            raise InputError(
                f"The training loss became {trained['train_loss']} in epoch {epoch}. "
                "A lower learning rate usually helps."
            )
        return state, trained

    def _validate(self, definition: Any, weights: Arrays, inputs: Inputs) -> dict:
        val, task = self.data.val, self.data.task
        logits = compute_logits(
            definition,
            weights,
            inputs.val,
            preprocessing=self.preprocessing,
            mesh=self.mesh,
            entry=inputs.entry,
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


def _averages(state: TrainState) -> dict:
    """Returns loss and accuracy over the epoch so far, as training saw them."""
    totals = {name: float(value) for name, value in state.totals.items()}
    return {
        "train_loss": totals["loss"] / totals["weight"],
        "train_accuracy": totals["hits"] / totals["images"],
    }


def _rates(plan: StepPlan, step: int, scale: float) -> dict[str, float]:
    """Returns the groups' learning rates at a step, by column of the history."""
    return {
        f"lr_{group.name}": scale * plan.phase.rate(group, step, plan.steps_per_epoch)
        for group in plan.phase.groups
    }
