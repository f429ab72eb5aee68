"""Where an epoch's images come from: the devices' memory, or a stream.

A resident feed has them all on the devices, and only indices travel. A streaming feed
reads the images of the next steps while the devices compute. Both give the same steps.
"""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import windows
from jaxmed.errors import unknown
from jaxmed.runtime import distributed
from jaxmed.runtime.memory import image_budget
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import empty_aligned, local_rows, replicate, shard_batch
from jaxmed.training.inputs.stream import Source, default_workers, read_ahead
from jaxmed.training.state import Batch, Images, StepPlan
from jaxmed.training.step import (
    TrainStep,
    compiled_batch_step,
    compiled_train_step,
    compiled_train_steps,
)

# Images of a dispatch of several steps: about half a second's on a large GPU, so that
# progress is still seen.
DISPATCHED = 1024
READ_TOGETHER = 256
FEEDS = ("auto", "resident", "stream")


class Part(NamedTuple):
    """Some steps of an epoch, which are dispatched together.

    Attributes:
        arguments: of the feed's program, beside the state and what stays the same.
        steps: how many.
        images: in them, padding left out.
    """

    arguments: dict[str, Any]
    steps: int
    images: int


class Feed(Protocol):
    """Gives a phase's compiled program, and an epoch's arguments for it."""

    def program(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compiles the training step, or several, for what `parts` gives."""
        ...

    def parts(self, order: np.ndarray, start: int = 0) -> Generator[Part]:
        """Yields an epoch: the images of `order`, from step `start` on."""
        ...


def check_feed(feed: str) -> None:
    """Checks a feed's name.

    Raises:
        InputError: there is none of that name.
    """
    if feed not in FEEDS:
        raise unknown("feed", feed, FEEDS)


def create_feed(
    feed: str,
    images: Any,
    labels: np.ndarray,
    *,
    batch_size: int,
    accumulate: int,
    mesh: Mesh,
    together: int | None = None,
) -> Feed:
    """Chooses where images are kept while a network is trained on them.

    Args:
        feed: "resident"; "stream"; or "auto", which is resident if the images take no
            more than `image_budget`.
        images: an array or `LazyImages` (n, h, w, c).
        labels: int32 (n,) or (n, k).
        batch_size: images a batch.
        accumulate: batches a step.
        mesh: the devices.
        together: steps a dispatch of a resident feed; None for `steps_together`.
    """
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "accumulate": accumulate,
        "mesh": mesh,
    }
    fits = distributed.all_agree(images.nbytes <= image_budget(mesh))
    if feed == "stream" or (feed == "auto" and not fits):
        workers = default_workers(images)
        return StreamingFeed(images=images, labels=labels, workers=workers, **settings)
    step = batch_size * accumulate
    most = -(-len(images) // step)
    together = together or min(steps_together(mesh, step), most)
    whole = images if isinstance(images, np.ndarray) else read_all(images)
    kept = replicate(Images(whole, labels), mesh)
    return ResidentFeed(images=kept, together=together, **settings)


def read_all(images: Any) -> np.ndarray:
    """Reads lazy images into an array, uint8 (n, h, w, c)."""
    whole = empty_aligned(images.shape, images.dtype)
    with progress("Reading images", len(whole), unit="images") as advance:
        for start in range(0, len(whole), READ_TOGETHER):
            part = images[start : start + READ_TOGETHER]
            whole[start : start + READ_TOGETHER] = part
            advance(len(part))
    return whole


def steps_together(mesh: Mesh, images: int) -> int:
    """Returns how many steps of so many images a dispatch should have.

    One on a CPU. There XLA runs convolutions' gradients inside a loop on one thread
    and by its slow path: full steps of ResNet-18 at 112 pixels, 16 images, take 0.44 s
    one by one and 9.7 to 15 s in a loop (frozen ones 0.3 s either way), and a dispatch
    costs less than a millisecond.
    """
    if mesh.devices.flat[0].platform == "cpu":
        return 1
    return max(1, DISPATCHED // images)


@dataclass(frozen=True, kw_only=True)
class ResidentFeed:
    """All images lie on the devices.

    Attributes:
        images: a split, on every device of the mesh.
        batch_size: images a batch.
        accumulate: batches a step.
        mesh: the devices.
        together: steps a dispatch.
    """

    images: Images
    batch_size: int
    accumulate: int
    mesh: Mesh
    together: int = 1

    def program(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compiles the training step, or a loop of `together` of them."""
        if self.together == 1:
            return compiled_train_step(definition, plan, self.mesh)
        return compiled_train_steps(definition, plan, self.mesh)

    def parts(self, order: np.ndarray, start: int = 0) -> Generator[Part]:
        """Yields the steps one by one, or `together` of them and the rest."""
        found = windows(order, self.batch_size, self.mesh.size, self.accumulate)
        found = islice(found, start, None)
        while several := list(islice(found, self.together)):
            indices, mask = map(np.stack, zip(*several, strict=True))
            arguments: dict[str, Any] = {"images": self.images}
            if self.together == 1:
                arguments |= {"indices": indices[0], "mask": mask[0]}
            else:
                # One shape; the program leaves out what is behind `count`.
                missing = [(0, self.together - len(several)), (0, 0), (0, 0)]
                indices, mask = np.pad(indices, missing), np.pad(mask, missing)
                count = np.int32(len(several))
                arguments |= {"indices": indices, "mask": mask, "count": count}
            yield Part(arguments, len(several), int(mask.sum()))


@dataclass(frozen=True, kw_only=True)
class StreamingFeed:
    """Images are read step by step, and lie on the devices before they are needed.

    Of several processes each reads those for its own devices.

    Attributes:
        images: an array or `LazyImages`, uint8 (n, h, w, c).
        labels: int32 (n,) or (n, k).
        batch_size, accumulate, mesh: see `ResidentFeed`.
        workers: processes that read, see `read_ahead`.
    """

    images: Any
    labels: np.ndarray
    batch_size: int
    accumulate: int
    mesh: Mesh
    workers: int

    def program(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compiles the training step."""
        return compiled_batch_step(definition, plan, self.mesh)

    def parts(self, order: np.ndarray, start: int = 0) -> Generator[Part]:
        """Yields the steps one by one."""
        found = windows(order, self.batch_size, self.mesh.size, self.accumulate)
        steps = list(islice(found, start, None))
        if not steps:
            return
        own = local_rows(steps[0][0].shape[1], self.mesh)
        parts = [(indices[:, own], mask[:, own]) for indices, mask in steps]
        reading = read_ahead(Source(self.images, self.labels, parts), self.workers)
        waiting = None
        for read, (_, mask) in zip(reading, steps, strict=True):
            # JAX may use the arrays in the memory that is shared with a process, and
            # holds on to them as long.
            batch = shard_batch(Batch(*read), self.mesh, axis=1)
            following = Part({"batch": batch}, 1, int(mask.sum()))
            if waiting:
                yield waiting
            waiting = following
        if waiting:
            yield waiting
