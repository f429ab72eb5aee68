"""Input pipeline of a training: images or cached activations, step by step.

The loop asks it for a phase's inputs, and those for each epoch's steps. Where the
images are, whether frozen layers are cached, how batches are cut, padded and put on the
devices is decided here and in the modules beside.
"""

import sys
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import draw_epoch
from jaxmed.data.dataset import Dataset
from jaxmed.data.images.lazy import ImageArray
from jaxmed.inference.activations import FrozenStages, get_activations
from jaxmed.models.classifier import Classifier
from jaxmed.runtime import distributed
from jaxmed.runtime.progress import progress
from jaxmed.strategies import Phase
from jaxmed.training.config import TrainingConfig
from jaxmed.training.inputs.activation_cache import CachedActivations, fill_cache
from jaxmed.training.inputs.cache_plan import CacheDecision, CachePlan, plan_cache
from jaxmed.training.inputs.feeds import Dispatch, Feed, create_feed
from jaxmed.training.state import StepPlan
from jaxmed.training.step import TrainStep


@dataclass(frozen=True, kw_only=True)
class PhaseInputs:
    """Training steps and validation inputs of a phase.

    Attributes:
        feed: the training steps.
        val: the val images, or their cached activations.
        labels: of the train images, int32 (n,) or (n, k).
        config: whose sampling, seed and batches.
        start_stage: the stage that training steps begin with; None for images.
        val_stage: the stage that `val` is the input of; None if it is images.
        views: cached views of every train image.
    """

    feed: Feed
    val: ImageArray
    labels: np.ndarray
    config: TrainingConfig
    start_stage: str | None = None
    val_stage: str | None = None
    views: int = 1

    def compile_step(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compile the training step for what `steps` gives."""
        return self.feed.compile_step(definition, plan)

    def steps(self, epoch: int, start: int = 0) -> Generator[Dispatch]:
        """Yield an epoch's steps, from step `start` on; to be closed if left early."""
        return self.feed.dispatches(self.rows(epoch), start)

    def rows(self, epoch: int) -> np.ndarray:
        """Return an epoch's rows of the feed in their order, int32 (n,).

        They are images; or of cached views another one of each image in each epoch:
        the views take turns, and the seed draws which one is an image's first.

        Args:
            epoch: counted from the start of the run.
        """
        count, seed = len(self.labels), self.config.seed
        order = draw_epoch(self.labels, self.config.sampling, seed=seed, epoch=epoch)
        if self.views == 1:
            return order
        first = np.random.default_rng(seed).integers(self.views, size=count)
        view = (first[order] + epoch) % self.views
        return (order + count * view).astype(np.int32)

    def images_of(self, epoch: int, step: int) -> np.ndarray:
        """Return the train images that a step of an epoch sees, int (m,)."""
        size = self.config.batch_size * self.config.accumulate
        rows = self.rows(epoch)[step * size :][:size]
        return rows % len(self.labels)


class InputPipeline:
    """Inputs of a training, phase by phase.

    Args:
        data: whose train and val splits.
        config: the options of training, resolved.
        mesh: the devices.
    """

    def __init__(self, data: Dataset, config: TrainingConfig, mesh: Mesh):
        self.data, self.config, self.mesh = data, config, mesh
        self._decisions: dict[str, CacheDecision] = {}

    def for_phase(self, model: Classifier, phase: Phase) -> PhaseInputs:
        """Prepare a phase's inputs: images, or activations that are cached now.

        What is cached, or why not, is printed.

        Args:
            model: as the phase begins; its BatchNorm layers are put in eval mode.
            phase: what is trained, and how long.
        """
        plan, reason, evaluation_stage = self._decide(model, phase)
        if plan:
            _log(phase, plan.describe())
            try:
                cached = fill_cache(plan, model, self.data, self.config, mesh=self.mesh)
            except OSError as error:
                reason = f"{plan.folder} cannot be written to ({error.strerror})"
            else:
                return self._of_activations(plan, cached)
        if self.config.cache.mode != "off" and reason:
            _log(phase, f"Frozen-layer cache disabled: {reason}.")
        if evaluation_stage == "head":
            features = self._val_features(model)
            return replace(self._of_images, val=features, val_stage="head")
        return self._of_images

    def evaluation_stage(self, model: Classifier, phase: Phase) -> str | None:
        """Return the stage whose cached input prediction begins with; None for images.

        Args:
            model, phase: see `for_phase`.
        """
        return self._decide(model, phase).evaluation_stage

    def _decide(self, model: Classifier, phase: Phase) -> CacheDecision:
        """Decide once what a phase caches."""
        if phase.name not in self._decisions:
            decision = plan_cache(model, phase, self.data, self.config)
            # Each process has its own memory and disk, and all train on the same.
            if not distributed.all_agree(decision.plan is not None) and decision.plan:
                stage = "head" if decision.evaluation_stage == "head" else None
                decision = CacheDecision(None, "another process cannot keep it", stage)
            self._decisions[phase.name] = decision
        return self._decisions[phase.name]

    @cached_property
    def _of_images(self) -> PhaseInputs:
        """The images themselves; all phases that see them share one feed."""
        train, val = self.data.train, self.data.val
        feed = self._feed(self.config.feed, train.images, train.labels)
        return PhaseInputs(
            feed=feed, val=val.images, labels=train.labels, config=self.config
        )

    def _val_features(self, model: Classifier) -> np.ndarray:
        """Compute the input of the head of the val images."""
        stages = FrozenStages.of(model, "head", self.config.preprocessing, self.mesh)
        val, store = self.data.val, self.config.cache.store
        with progress("Caching features of val", len(val), unit="images") as advance:
            return get_activations(stages, val, store, advance)

    def _of_activations(
        self, plan: CachePlan, cached: CachedActivations
    ) -> PhaseInputs:
        labels = self.data.train.labels
        feed = "stream" if plan.folder else self.config.feed
        of_views = np.concatenate([labels] * plan.views)
        return PhaseInputs(
            feed=self._feed(feed, cached.train, of_views),
            val=cached.val,
            labels=labels,
            config=self.config,
            start_stage=plan.start_stage,
            val_stage=plan.start_stage,
            views=plan.views,
        )

    def _feed(self, feed: str, images: ImageArray, labels: np.ndarray) -> Feed:
        return create_feed(
            feed,
            images,
            labels,
            batch_size=self.config.batch_size,
            accumulate=self.config.accumulate,
            mesh=self.mesh,
        )


def _log(phase: Phase, sentence: str) -> None:
    if distributed.is_process_zero():
        print(f"{phase.name}: {sentence}", file=sys.stderr, flush=True)
