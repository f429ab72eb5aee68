"""Plan of the activation cache: which stages are frozen, and whether caching pays."""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.data.dataset import Dataset
from jaxmed.inference.activations import GIGABYTE, shape_of
from jaxmed.inference.forward import eval_parts
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.runtime.cache import cache_folder
from jaxmed.strategies.phase import Phase, matches
from jaxmed.training.config import CacheSettings, TrainingConfig

# What a disk reads in the time of so many operations is not worth reading: half a
# gigabyte a second, against 500 GFLOP/s.
OPERATIONS_PER_BYTE = 1000


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """Cached activations of a phase: which, how many, and where.

    Attributes:
        start_stage: the stage that they are the input of.
        shape: of one image's activations, (h, w, c), or (c,) of the head's.
        dtype: of the numbers.
        train, val: images of the two splits.
        views: of every train image.
        folder: for the files; None keeps them in memory.
    """

    start_stage: str
    shape: tuple[int, ...]
    dtype: Any
    train: int
    val: int
    views: int
    folder: Path | None = None

    @property
    def bytes(self) -> int:
        """Size of all activations."""
        images = self.train * self.views + self.val
        return images * math.prod(self.shape) * jnp.dtype(self.dtype).itemsize

    def describe(self) -> str:
        """Describe the plan in a sentence."""
        shape = "×".join(map(str, self.shape))
        views = f" in {self.views} views" if self.views > 1 else ""
        return (
            f"Activations of the frozen layers before {self.start_stage} are cached "
            f"{'on disk' if self.folder else 'in memory'}: {shape} "
            f"{jnp.dtype(self.dtype).name} for each of {self.train} train images"
            f"{views} and {self.val} val images, {self.bytes / 1e6:,.1f} MB."
        )


class CacheDecision(NamedTuple):
    """What a phase caches, or why it caches nothing.

    Attributes:
        plan: None if nothing is cached.
        reason: why not, as the end of a sentence; empty with a plan, and where all
            stages are trained, so that there is nothing to cache.
        evaluation_stage: the stage whose cached input validation and prediction begin
            with, in float32: where that of training images as they are is cached in
            memory, and always the head's, which takes no room. None for images.
    """

    plan: CachePlan | None = None
    reason: str = ""
    evaluation_stage: str | None = None


def plan_cache(
    model: Classifier, phase: Phase, data: Dataset, config: TrainingConfig
) -> CacheDecision:
    """Decide what a phase caches.

    In mode "auto" that is all there is to cache, if the phase has more epochs than
    there are views, each of which costs what the frozen stages cost in an epoch; on
    disk only if they take `OPERATIONS_PER_BYTE`.

    Args:
        model: as the phase begins; its BatchNorm layers are put in eval mode.
        phase: what is trained, and how long.
        data: whose train and val images.
        config: whose cache, preprocessing, augmentation and mixing.
    """
    settings, size = config.cache, config.preprocessing.image_size
    if settings.mode == "off":
        return CacheDecision(reason="the cache is off")

    # Only what is the same in every epoch can be cached.
    start_stage, why = find_start_stage(model, phase, size)
    if start_stage == next(iter(model.stages)):
        trained = why == TRAINED
        return CacheDecision(
            reason="" if trained else f"{start_stage}, its first stage, {why}"
        )
    plan, reason = _plan_training(model, phase, data, config, start_stage)
    in_memory = plan is not None and plan.folder is None and not config.augmentation
    exact = settings.mode != "bfloat16" and (in_memory or start_stage == "head")
    return CacheDecision(plan, reason, start_stage if exact else None)


def _plan_training(
    model: Classifier,
    phase: Phase,
    data: Dataset,
    config: TrainingConfig,
    start_stage: str,
) -> tuple[CachePlan | None, str]:
    """Decide whether training begins with the cached input of a stage; or why not."""
    settings, size = config.cache, config.preprocessing.image_size
    if config.mixing:
        return None, "mixing images, by mixup or cutmix, is not mixing activations"
    if config.augmentation and not settings.views:
        return None, (
            "every epoch augments the images anew (cache_views can bound the views)"
        )

    # Filling the cache must cost less than the epochs that it saves; one epoch is as
    # much, and then others can use what it filled in.
    views = settings.views if config.augmentation else 1
    shared = settings.store is not None and views == 1
    if settings.mode == "auto" and phase.epochs <= views and not shared:
        return None, f"filling a cache takes {views} of {phase.epochs} epochs' work"

    # Its size decides between memory and disk.
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    plan = CachePlan(
        start_stage=start_stage,
        shape=shape_of(model, start_stage, image),
        dtype=jnp.bfloat16 if settings.mode == "bfloat16" else jnp.float32,
        train=len(data.train),
        val=len(data.val),
        views=views,
    )
    if plan.bytes <= settings.memory * GIGABYTE:
        return plan, ""
    return _plan_on_disk(plan, settings, model, image)


def _plan_on_disk(
    plan: CachePlan, settings: CacheSettings, model: Classifier, image: Any
) -> tuple[CachePlan | None, str]:
    """Keep a plan if the disk has room for it, and reading pays; or why not."""
    definition, params, stats = eval_parts(model)

    def stages(weights, images):
        model = merge(definition, weights, {})
        return model.stage_input(plan.start_stage, images)

    cost: Any = jax.jit(stages).lower(params | stats, image).cost_analysis()
    bytes_per_image = math.prod(plan.shape) * jnp.dtype(plan.dtype).itemsize
    needed = f"{plan.bytes / GIGABYTE:.1f} GB of activations before {plan.start_stage}"
    pays = not cost or cost.get("flops", 0) >= OPERATIONS_PER_BYTE * bytes_per_image
    if settings.mode == "auto" and not pays:
        return None, f"reading {needed} from disk takes longer than computing them"
    folder = cache_folder(settings.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return None, f"{folder} cannot be used ({error.strerror})"
    if free < plan.bytes:
        return None, f"{folder} has {free / GIGABYTE:.1f} GB left, not {needed}"
    return replace(plan, folder=folder), ""


TRAINED = "is trained"


class StartStage(NamedTuple):
    """The first stage whose output may differ from epoch to epoch.

    Attributes:
        stage: its name, "head" if the backbone is frozen as a whole.
        why: what makes it differ, as the end of a sentence.
    """

    stage: str
    why: str


def find_start_stage(model: Classifier, phase: Phase, image_size: int) -> StartStage:
    """Find the first stage that a phase has to compute in every step.

    A stage is frozen if no parameter of it is trained, none of its BatchNorm layers
    uses batch statistics, and neither dropout nor stochastic depth acts in it, which
    they do in the whole backbone as soon as some of it is trained.

    Args:
        model: whose stages.
        phase: what is trained.
        image_size: pixels of a side.

    Returns:
        The first stage that is not frozen; the model's first if none is.
    """
    trained = phase.assign(split(model).params)
    norms = phase.training_norms(model)
    start_stage = StartStage("head", TRAINED)
    for stage, patterns in model.stages.items():
        if _any_inside(patterns, trained):
            start_stage = StartStage(stage, TRAINED)
            break
        if _any_inside(patterns, norms):
            start_stage = StartStage(stage, "updates its BatchNorm statistics")
            break
    if any(path.startswith("backbone.") for path in trained):
        random = _first_random(model, start_stage.stage, image_size)
        if random:
            start_stage = StartStage(random, "has stochastic depth")
    return start_stage


def _any_inside(patterns: Iterable[str], paths: Iterable[str]) -> bool:
    return any(matches(pattern, path) for path in paths for pattern in patterns)


def _first_random(model: Classifier, stop: str, image_size: int) -> str | None:
    """Return the first stage before `stop` that draws from the random stream."""
    definition, params, stats = split(model)
    random: list[str] = []

    def run(weights, x):
        backbone = merge(definition, weights, {}).backbone
        rngs = nnx.Rngs(dropout=0)
        before = rngs.dropout.count.get_value()
        for stage in model.stages:
            if stage == stop or random:
                break
            x = backbone.run_stage(stage, x, rngs=rngs)
            # Every draw replaces the count; what it counts is not known in a trace.
            if rngs.dropout.count.get_value() is not before:
                random.append(stage)

    images = jnp.zeros((1, image_size, image_size, model.in_channels))
    jax.eval_shape(run, params | stats, images)
    return random[0] if random else None
