"""Whether a phase keeps what its frozen stages give, where, and how exactly."""

import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError, unknown
from jaxmed.inference.forward import eval_parts
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import merge, split
from jaxmed.runtime.cache import cache_folder
from jaxmed.strategies.phase import Phase, matches

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
            start_stage = StartStage(stage, "has BatchNorm statistics that drift")
            break
    if any(path.startswith("backbone.") for path in trained):
        random = _first_random(model, start_stage.stage, image_size)
        if random:
            start_stage = StartStage(random, "has stochastic depth")
    return start_stage


def _any_inside(patterns: Iterable[str], paths: Iterable[str]) -> bool:
    return any(matches(pattern, path) for path in paths for pattern in patterns)


def _first_random(model: Classifier, stop: str, image_size: int) -> str | None:
    """Returns the first stage before `stop` that draws from the random stream."""
    definition, params, stats = split(model)
    found: list[str] = []

    def run(weights, x):
        backbone = merge(definition, weights, {}).backbone
        rngs = nnx.Rngs(dropout=0)
        before = rngs.dropout.count.get_value()
        for stage in model.stages:
            if stage == stop or found:
                break
            x = backbone.run_stage(stage, x, rngs=rngs)
            # Every draw replaces the count; what it counts is not known in a trace.
            if rngs.dropout.count.get_value() is not before:
                found.append(stage)

    images = jnp.zeros((1, image_size, image_size, model.in_channels))
    jax.eval_shape(run, params | stats, images)
    return found[0] if found else None


MODES = ("auto", "off", "float32", "bfloat16")
GIGABYTE = 1e9
# What a disk reads in the time of so many operations is not worth reading: half a
# gigabyte a second, against 500 GFLOP/s.
OPERATIONS_PER_BYTE = 1000


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Whether and how the output of frozen stages is kept.

    Attributes:
        mode: "auto", in float32 where it saves time; "off", never; "float32" or
            "bfloat16", wherever it is possible. bfloat16 takes half the room and
            rounds to three digits.
        views: with augmentation, views of every train image that are drawn once and
            take turns in the epochs; 0 caches nothing there, so that every epoch
            draws anew.
        memory: gigabytes up to which it is kept in memory; above, it is on disk.
        folder: for the files on disk, which are gone when the phase or the program
            ends; by default the cache folder.

    Raises:
        InputError: an unknown mode, or a negative number.
    """

    mode: str = "auto"
    views: int = 0
    memory: float = 4.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown("cache mode", self.mode, MODES)
        for name in ("views", "memory"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"The cache's {name} must be at least 0, got {getattr(self, name)}."
                )


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """What is cached in a phase, and where.

    Attributes:
        start_stage: the stage that it enters.
        shape: of one image's.
        dtype: of the numbers.
        train, val: images of the two splits.
        views: of every train image.
        folder: for the files; None keeps it in memory.
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
        """Size of all of it."""
        images = self.train * self.views + self.val
        return images * math.prod(self.shape) * jnp.dtype(self.dtype).itemsize

    def describe(self) -> str:
        """Says it in a sentence."""
        shape = "×".join(map(str, self.shape))
        views = f" in {self.views} views" if self.views > 1 else ""
        return (
            f"What enters {self.start_stage} is computed once and kept "
            f"{'on disk' if self.folder else 'in memory'}: {shape} "
            f"{jnp.dtype(self.dtype).name} for each of {self.train} train images"
            f"{views} and {self.val} val images, {self.bytes / 1e6:,.1f} MB."
        )


def plan_cache(
    model: Classifier,
    phase: Phase,
    data: Dataset,
    *,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    mixed: bool,
    settings: CacheSettings,
) -> CachePlan | str:
    """Decides what a phase caches.

    In mode "auto" that is all there is to cache, if the phase has more epochs than
    there are views, each of which costs what the frozen stages cost in an epoch; on
    disk only if they take `OPERATIONS_PER_BYTE`.

    Args:
        model: as the phase begins.
        phase: what is trained, and how long.
        data: whose train and val images.
        preprocessing, augmentation: of the images.
        mixed: whether images are mixed, by mixup or cutmix.
        settings: what the user wants.

    Returns:
        The plan, or why nothing is cached, as the end of a sentence; empty where all
        stages are trained.
    """
    if settings.mode == "off":
        return "the cache is off"
    start_stage, why = find_start_stage(model, phase, preprocessing.image_size)
    if start_stage == next(iter(model.stages)):
        return "" if why == TRAINED else f"{start_stage}, its first stage, {why}"
    if mixed:
        return "mixing images, by mixup or cutmix, is not mixing what enters a stage"
    if augmentation and not settings.views:
        return "every epoch augments the images anew (cache_views can bound the views)"
    views = settings.views if augmentation else 1
    if settings.mode == "auto" and phase.epochs <= views:
        return f"filling a cache takes {views} of {phase.epochs} epochs' work"
    size = preprocessing.image_size
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    plan = CachePlan(
        start_stage=start_stage,
        shape=jax.eval_shape(*_one_image(model, start_stage), image).shape[1:],
        dtype=jnp.bfloat16 if settings.mode == "bfloat16" else jnp.float32,
        train=len(data.train),
        val=len(data.val),
        views=views,
    )
    if plan.bytes <= settings.memory * GIGABYTE:
        return plan
    return _plan_on_disk(plan, settings, model, image)


def _one_image(model: Classifier, start_stage: str) -> tuple[Callable, Any]:
    """Returns the function that a cache is of, and its first argument."""
    definition, params, stats = eval_parts(model)

    def entering(weights, images):
        return merge(definition, weights, {}).stage_input(start_stage, images)

    return entering, params | stats


def _plan_on_disk(
    plan: CachePlan, settings: CacheSettings, model: Classifier, image: Any
) -> CachePlan | str:
    entering, weights = _one_image(model, plan.start_stage)
    cost: Any = jax.jit(entering).lower(weights, image).cost_analysis()
    one = math.prod(plan.shape) * jnp.dtype(plan.dtype).itemsize
    needed = f"{plan.bytes / GIGABYTE:.1f} GB for what enters {plan.start_stage}"
    worth = not cost or cost.get("flops", 0) >= OPERATIONS_PER_BYTE * one
    if settings.mode == "auto" and not worth:
        return f"reading {needed} from disk takes longer than computing it"
    folder = cache_folder(settings.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder} cannot be used ({error.strerror})"
    if free < plan.bytes:
        return f"{folder} has {free / GIGABYTE:.1f} GB left, not {needed}"
    return replace(plan, folder=folder)
