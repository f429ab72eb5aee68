"""Phases of epochs, each epoch followed by validation and a checkpoint."""

import functools
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.data.batching import draw_epoch
from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.inference.forward import (
    as_predictions,
    compute_logits,
    eval_parts,
    evaluation_batch,
)
from jaxmed.models.classifier import Classifier
from jaxmed.models.outputs import probabilities
from jaxmed.models.parameters import Arrays, load
from jaxmed.models.precision import precision_of
from jaxmed.runtime import distributed
from jaxmed.runtime.interrupts import defer_signals
from jaxmed.runtime.progress import Advance, progress
from jaxmed.runtime.sharding import replicate, to_host
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.divergence import (
    Diverged,
    check_validation,
    diverged_at,
)
from jaxmed.training.epoch import Interim, stop_if_asked, train_epoch
from jaxmed.training.identity import identify
from jaxmed.training.inputs.activation_cache.fill import cached_inputs
from jaxmed.training.inputs.activation_cache.inputs import Inputs
from jaxmed.training.inputs.activation_cache.plan import CacheSettings
from jaxmed.training.inputs.resident import Feed, create_feed
from jaxmed.training.log import Journal
from jaxmed.training.loss import Loss, image_hits, mean_loss
from jaxmed.training.model_selection import plateau_factor, validation_scores
from jaxmed.training.state import (
    Frozen,
    StepPlan,
    TrainState,
    all_weights,
    begin_phase,
    describe_average,
)


@dataclass(kw_only=True)
class Loop:
    """One training: its arguments, which are `fit`'s, and how far it is.

    Attributes:
        journal: how far it is.
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
    checkpoint_steps: int
    mesh: Mesh
    cache: CacheSettings

    def __post_init__(self) -> None:
        self.journal = Journal(
            strategy=self.strategy,
            select=self.select,
            identify=self._identify,
            saved=self.saved,
        )
        self._shared: Feed | None = None

    def _identify(self) -> dict[str, Any]:
        """Describes all that decides the result; what does not is not in it."""
        names = (
            "preprocessing", "loss", "augmentation", "mixing", "sampling",
            "batch_size", "accumulate", "ema", "seed", "select",
        )  # fmt: skip
        settings = {name: getattr(self, name) for name in names}
        settings["cache"] = {"mode": self.cache.mode, "views": self.cache.views}
        settings["precision"] = precision_of(self.model)
        return identify(self.model, self.data, self.strategy, settings)

    def run(self) -> None:
        """Trains to the end; the model is left with the best epoch's weights."""
        with defer_signals():
            self._run()

    def _run(self) -> None:
        self.journal.resume(self.model)
        train, val = self.data.train, self.data.val
        self._images = Inputs(train.images, train.labels, val.images)
        for number, phase in enumerate(self.strategy.phases):
            if not self.journal.is_over(phase):
                self._run_phase(number, phase)
        load(self.model, self.journal.best_weights())
        eval_parts(self.model)

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

    def _feed_of(self, inputs: Inputs) -> Feed:
        """Makes the phase's feed; phases that see the images share one."""
        if inputs is self._images and self._shared:
            return self._shared
        feed = create_feed(
            "stream" if inputs.on_disk else self.feed,
            inputs.train,
            inputs.labels,
            batch_size=self.batch_size,
            accumulate=self.accumulate,
            mesh=self.mesh,
        )
        if inputs is self._images:
            self._shared = feed
        return feed

    def _plan(self, phase: Phase, start_stage: str | None) -> StepPlan:
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
            start_stage=start_stage,
        )

    def _run_phase(self, number: int, phase: Phase) -> None:
        """Runs what is left of a phase."""
        self.journal.phase = number
        started = time.perf_counter()
        inputs = self._inputs(phase)
        feed = self._feed_of(inputs)
        spent = time.perf_counter() - started
        plan = self._plan(phase, inputs.start_stage)
        steps = phase.epochs * plan.steps_per_epoch
        if distributed.is_process_zero() and (
            said := describe_average(self.ema, steps)
        ):
            print(f"{phase.name}: {said}", file=sys.stderr, flush=True)
        definition, state, frozen = begin_phase(self.model, plan)
        state = self.journal.restore(phase, state)
        state, frozen = replicate(state, self.mesh), replicate(frozen, self.mesh)
        key = jax.random.fold_in(jax.random.key(self.seed), number)
        step = functools.partial(
            feed.program(definition, plan),
            frozen=frozen,
            key=replicate(key, self.mesh),
        )
        definition = eval_parts(self.model).definition
        weights = all_weights(state, frozen)
        while not self.journal.is_over(phase):
            rows, epoch = self.journal.rows(phase), len(self.journal.history) + 1
            scale = plateau_factor(phase, rows)
            label = f"{phase.name} {len(rows) + 1}/{phase.epochs}"
            count = len(self.data.train)
            started = time.perf_counter() - self.journal.seconds
            with progress(label, count, unit="images") as advance:
                if not rows:
                    advance(0, step="being compiled")
                state, trained = self._train_epoch(
                    plan, step, state, frozen, inputs, feed, scale, started, advance
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
            # Rounding may differ between machines, and what is decided by it must not.
            row = distributed.run_on_process_zero(lambda row=row: row)
            spent = 0.0
            self.journal.enter(row, weights, state)
            stop_if_asked(self.saved)
        if phase.restore_best:
            load(self.model, self.journal.best_weights(phase))
        else:
            load(self.model, to_host(weights))

    def _train_epoch(
        self,
        plan: StepPlan,
        step: Callable[..., TrainState],
        state: TrainState,
        frozen: Frozen,
        inputs: Inputs,
        feed: Feed,
        scale: float,
        started: float,
        advance: Advance,
    ) -> tuple[TrainState, dict[str, float]]:
        """Trains an epoch, or what a stopped run has left of it."""
        epoch, done = len(self.journal.history) + 1, self.journal.done
        self.journal.done, self.journal.seconds = 0, 0.0
        labels, images = self.data.train.labels, self.batch_size * self.accumulate
        order = draw_epoch(labels, self.sampling, seed=self.seed, epoch=epoch)
        order = inputs.rows(order, seed=self.seed, epoch=epoch)
        advance(min(done * images, len(order)))

        def save(state: TrainState, done: int) -> None:
            seconds = time.perf_counter() - started
            weights = all_weights(state, frozen)
            self.journal.save(weights, state, done=done, seconds=seconds)

        try:
            return train_epoch(
                step,
                state,
                feed,
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
                where,
                epoch,
                # Views of an image are rows of their own.
                order[where * images :][:images] % len(self.data.train),
                self.data.train.ids,
                self.saved,
            ) from None

    def _validate(self, definition: Any, weights: Arrays, inputs: Inputs) -> dict:
        val, task = self.data.val, self.data.task
        logits = compute_logits(
            definition,
            weights,
            inputs.val,
            preprocessing=self.preprocessing,
            mesh=self.mesh,
            batch_size=evaluation_batch(self.data),
            start_stage=inputs.start_stage,
        )
        # Where logits overflowed, NumPy warns of it, and we say what it means.
        with np.errstate(all="ignore"):
            loss = mean_loss(logits, val.labels, task, self.loss)
        check_validation(loss, len(self.journal.history) + 1)
        hits, counts = map(np.asarray, image_hits(logits, val.labels, task))
        accuracy = hits.sum(dtype=np.float64) / counts.sum(dtype=np.float64)
        predictions = as_predictions(self.data, "val", probabilities(logits, task))
        return {
            "val_loss": loss,
            "val_accuracy": float(accuracy),
            **validation_scores(predictions, self.select),
        }


def _rates(plan: StepPlan, step: int, scale: float) -> dict[str, float]:
    """Returns the groups' learning rates at a step, by column of the history."""
    return {
        f"lr_{group.name}": scale * plan.phase.rate(group, step, plan.steps_per_epoch)
        for group in plan.phase.groups
    }
