"""Phases of epochs, each epoch followed by validation and a checkpoint."""

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxmed.data.dataset import Dataset
from jaxmed.data.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.evaluation.ranking import Ranking
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load
from jaxmed.progress import Advance, progress
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.batches import batches, shuffled
from jaxmed.training.checkpoint import Checkpoints
from jaxmed.training.objective import image_hits, mean_loss, probabilities
from jaxmed.training.predict import as_predictions, compute_logits
from jaxmed.training.sharding import Devices, data_mesh, replicate, replicated, to_host
from jaxmed.training.step import (
    Frozen,
    Images,
    TrainState,
    begin_phase,
    compiled_train_step,
    eval_parts,
    zero_totals,
)

# What may choose the best epoch, and whether more of it is better.
SELECTORS = {"val_auroc": True, "val_accuracy": True, "val_loss": False}

# Seconds between two looks at the running totals; a look waits for the device.
LOOK_INTERVAL = 0.5


class Loop:
    """One training: its arguments, and how far it is.

    Attributes:
        history: a dict per finished epoch, with the columns of history.csv.
        best: the best epoch so far: "phase", "epoch", "metric", "value".
    """

    def __init__(
        self,
        model: Classifier,
        data: Dataset,
        strategy: Strategy,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        seed: int,
        select: str,
        saved: Checkpoints | None,
        devices: Devices | None,
    ):
        self.model = model
        self.data = data
        self.strategy = strategy
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.seed = seed
        self.select = select
        self.saved = saved
        self.mesh = data_mesh(devices)
        self.history: list[dict] = []
        self.best: dict = {}
        self._best_weights: Arrays = {}

    def run(self) -> None:
        """Trains to the end; the model is left with the best epoch's weights."""
        self._resume()
        train = self.data.train
        self._images = replicate(Images(train.images, train.labels), self.mesh)
        before = 0
        for number, phase in enumerate(self.strategy.phases):
            if len(self.history) < before + phase.epochs:
                self._run_phase(number, phase, before)
            before += phase.epochs
        load(self.model, self._best_weights)
        eval_parts(self.model)

    def _resume(self) -> None:
        """Goes back to the last checkpoint, if there is one."""
        found = self.saved.load_progress() if self.saved else None
        if self.saved is None or found is None:
            return
        try:
            load(self.model, self.saved.load_weights())
        except ValueError as error:
            raise InputError(
                f"The checkpoints are not of {self.model.architecture} with this "
                f"head. {error}"
            ) from error
        self.history, self.best = found["history"], found["best"]
        self._best_weights = self.saved.load_weights(self.best["epoch"])

    def _run_phase(self, number: int, phase: Phase, before: int) -> None:
        """Runs what is left of a phase that has `before` epochs before it."""
        definition, state, frozen = begin_phase(self.model, phase)
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)
        if self.saved and len(self.history) > before:
            rest = self.saved.load_optimizer((state.optimizer, state.step))
            state = state._replace(optimizer=rest[0], step=rest[1])
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        step = partial(
            compiled_train_step(
                definition, phase, self.preprocessing, self.data.task, self.mesh
            ),
            frozen=frozen,
            images=self._images,
            key=jax.device_put(key, replicated(self.mesh)),
        )
        definition = eval_parts(self.model).definition
        for epoch in range(len(self.history) + 1, before + phase.epochs + 1):
            label = f"{phase.name} {epoch - before}/{phase.epochs}"
            started = time.perf_counter()
            count = len(self.data.train.ids)
            with progress(label, count, unit="images") as advance:
                if len(self.history) == before:
                    advance(0, step="being compiled")
                state, trained = self._train_epoch(step, state, epoch, advance)
                seconds = time.perf_counter() - started
                weights = _weights(state, frozen)
                validated = self._validate(definition, weights)
                advance(0, **trained, **validated)
            row = {
                "phase": phase.name,
                "epoch": epoch,
                "step": int(state.step),
                **trained,
                **validated,
                **{f"lr_{g.name}": g.optimizer.learning_rate for g in phase.groups},
                "seconds": time.perf_counter() - started,
                "images_per_second": count / seconds,
            }
            self._keep(row, weights, state)
        load(self.model, to_host(_weights(state, frozen)))

    def _train_epoch(
        self, step: Callable, state: TrainState, epoch: int, advance: Advance
    ) -> tuple[TrainState, dict]:
        state = state._replace(totals=replicate(zero_totals(), self.mesh))
        order = shuffled(len(self.data.train.ids), seed=self.seed, epoch=epoch)
        looked, pending = time.monotonic(), 0
        for indices, mask in batches(order, self.batch_size, self.mesh.size):
            state = step(state, indices=indices, mask=mask)
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
        auroc = Ranking(predictions).values()[("auroc",)]
        return {
            "val_loss": mean_loss(logits, val.labels, task),
            "val_accuracy": float(hits.mean(dtype=np.float64)),
            "val_auroc": auroc if isinstance(auroc, float) else None,
        }

    def _keep(self, row: dict, weights: Arrays, state: TrainState) -> None:
        """Enters a finished epoch in the history and saves it."""
        self.history.append(row)
        value = row[self.select]
        if value is None:
            raise InputError(
                f"{self.select} is not defined on the validation split, which has "
                "images of one class only. Choose the best epoch by val_loss."
            )
        better = SELECTORS[self.select]
        best = self.best.get("value")
        if best is None or (value > best if better else value < best):
            self.best = {
                "phase": row["phase"],
                "epoch": row["epoch"],
                "metric": self.select,
                "value": value,
            }
            self._best_weights = to_host(weights)
        if self.saved:
            optimizer = (state.optimizer, state.step)
            found = {"history": self.history, "best": self.best}
            self.saved.save(row["epoch"], weights, optimizer, found)


def _averages(state: TrainState) -> dict:
    """Returns loss and accuracy over the epoch so far, as training saw them."""
    totals = {name: float(value) for name, value in state.totals.items()}
    return {
        "train_loss": totals["loss"] / totals["images"],
        "train_accuracy": totals["hits"] / totals["images"],
    }


def _weights(state: TrainState, frozen: Frozen) -> Arrays:
    """All parameters and statistics, by path."""
    return state.params | frozen.params | state.stats | frozen.stats
