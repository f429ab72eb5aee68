"""Feeds: the steps of an epoch from images on the devices, or from a stream.

A resident feed keeps all images on the devices, and only indices travel. A streaming
feed reads the images of the next steps while the devices compute. Both give the same
steps, bit for bit.
"""

from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from jaxmed.data.batching import Batch as Window
from jaxmed.data.batching import windows
from jaxmed.data.images.lazy import ImageArray
from jaxmed.runtime import distributed
from jaxmed.runtime.memory import image_budget
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import empty_aligned, local_rows, replicate, shard_batch
from jaxmed.training.state import Batch, Images, StepPlan
from jaxmed.training.step import (
    TrainStep,
    compiled_batch_step,
    compiled_train_step,
    compiled_train_steps,
)

# Images of a dispatch of several steps: about half a second's on a large GPU, so that
# progress is still seen.
IMAGES_PER_DISPATCH = 1024
IMAGES_PER_READ = 256
# Steps that a stream reads at a time, ahead of the one that is computed.
STEPS_AHEAD = 2


class Dispatch(NamedTuple):
    """One step, or several that are dispatched together.

    Attributes:
        arguments: of the feed's compiled step, beside those that every step shares.
        steps: how many.
        images: in them, without padding.
    """

    arguments: dict[str, Any]
    steps: int
    images: int


class Feed(Protocol):
    """Gives a phase's compiled step, and an epoch's arguments for it."""

    def compile_step(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compile the training step for the arguments that `dispatches` gives."""
        ...

    def dispatches(self, order: np.ndarray, start: int = 0) -> Generator[Dispatch]:
        """Yield an epoch: the images of `order`, from step `start` on."""
        ...


def create_feed(
    feed: str,
    images: ImageArray,
    labels: np.ndarray,
    *,
    batch_size: int,
    accumulate: int,
    mesh: Mesh,
    steps_per_dispatch: int | None = None,
) -> Feed:
    """Choose where images are kept while a network is trained on them.

    Args:
        feed: "resident"; "stream"; or "auto", which is resident if the images take no
            more than `image_budget`.
        images: (n, h, w, c), of `LazyImages` or an array.
        labels: int32 (n,) or (n, k).
        batch_size: images a batch.
        accumulate: batches a step.
        mesh: the devices.
        steps_per_dispatch: of a resident feed; None for `choose_steps_per_dispatch`.
    """
    settings: dict[str, Any] = {
        "batch_size": batch_size,
        "accumulate": accumulate,
        "mesh": mesh,
    }
    # Processes may have memory of different sizes, and must enter the same program.
    fits = distributed.all_agree(images.nbytes <= image_budget(mesh))
    if feed == "stream" or (feed == "auto" and not fits):
        return StreamingFeed(images=images, labels=labels, **settings)
    images_per_step = batch_size * accumulate
    if steps_per_dispatch is None:
        steps_per_epoch = -(-len(images) // images_per_step)
        chosen = choose_steps_per_dispatch(mesh, images_per_step)
        steps_per_dispatch = min(chosen, steps_per_epoch)
    array = images if isinstance(images, np.ndarray) else read_all(images)
    return ResidentFeed(
        images=replicate(Images(array, labels), mesh),
        steps_per_dispatch=steps_per_dispatch,
        **settings,
    )


def read_all(images: ImageArray) -> np.ndarray:
    """Read lazy images into an array, uint8 (n, h, w, c)."""
    array = empty_aligned(images.shape, images.dtype)
    with progress("Reading images", len(array), unit="images") as advance:
        for start in range(0, len(array), IMAGES_PER_READ):
            part = images[start : start + IMAGES_PER_READ]
            array[start : start + IMAGES_PER_READ] = part
            advance(len(part))
    return array


def choose_steps_per_dispatch(mesh: Mesh, images: int) -> int:
    """Return how many steps of so many images a dispatch should have.

    One on a CPU. There XLA runs convolutions' gradients inside a loop on one thread
    and by its slow path: full steps of ResNet-18 at 112 pixels, 16 images, take 0.44 s
    one by one and 9.7 to 15 s in a loop (frozen ones 0.3 s either way), and a dispatch
    costs less than a millisecond.
    """
    if mesh.devices.flat[0].platform == "cpu":
        return 1
    return max(1, IMAGES_PER_DISPATCH // images)


@dataclass(frozen=True, kw_only=True)
class ResidentFeed:
    """A feed whose images all lie on the devices.

    Attributes:
        images: a split, on every device of the mesh.
        batch_size: images a batch.
        accumulate: batches a step.
        mesh: the devices.
        steps_per_dispatch: how many steps one call of the compiled step makes.
    """

    images: Images
    batch_size: int
    accumulate: int
    mesh: Mesh
    steps_per_dispatch: int = 1

    def compile_step(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compile the training step, or a loop of `steps_per_dispatch` of them."""
        if self.steps_per_dispatch == 1:
            return compiled_train_step(definition, plan, self.mesh)
        return compiled_train_steps(definition, plan, self.mesh)

    def dispatches(self, order: np.ndarray, start: int = 0) -> Generator[Dispatch]:
        """Yield the steps one by one, or `steps_per_dispatch` of them and the rest."""
        steps = windows(order, self.batch_size, self.mesh.size, self.accumulate)
        steps = islice(steps, start, None)
        while several := list(islice(steps, self.steps_per_dispatch)):
            indices, mask = map(np.stack, zip(*several, strict=True))
            arguments: dict[str, Any] = {"images": self.images}
            if self.steps_per_dispatch == 1:
                arguments |= {"indices": indices[0], "mask": mask[0]}
            else:
                # One shape; the program leaves out what is behind `count`.
                missing = self.steps_per_dispatch - len(several)
                padding = [(0, missing), (0, 0), (0, 0)]
                indices, mask = np.pad(indices, padding), np.pad(mask, padding)
                count = np.int32(len(several))
                arguments |= {"indices": indices, "mask": mask, "count": count}
            yield Dispatch(arguments, len(several), int(mask.sum()))


@dataclass(frozen=True, kw_only=True)
class StreamingFeed:
    """A feed that reads images step by step, ahead of the devices.

    Threads read, which live as long as the feed: an epoch begins without starting
    anything, and `LazyImages` decodes outside Python's lock. Of several processes each
    reads the rows of its own devices.

    Attributes:
        images: (n, h, w, c), of `LazyImages` or an array.
        labels: int32 (n,) or (n, k).
        batch_size, accumulate, mesh: see `ResidentFeed`.
    """

    images: ImageArray
    labels: np.ndarray
    batch_size: int
    accumulate: int
    mesh: Mesh
    _readers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(STEPS_AHEAD, "reader")
    )

    def compile_step(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compile the training step."""
        return compiled_batch_step(definition, plan, self.mesh)

    def dispatches(self, order: np.ndarray, start: int = 0) -> Generator[Dispatch]:
        """Yield the steps one by one, each on the devices before it is needed.

        Raises:
            InputError: an image cannot be read.
        """
        steps = windows(order, self.batch_size, self.mesh.size, self.accumulate)
        waiting = None
        for batch, images in self._read_ahead(islice(steps, start, None)):
            # The transfer of this step begins before the one before it is dispatched.
            batch = shard_batch(batch, self.mesh, axis=1)
            following = Dispatch({"batch": batch}, 1, images)
            if waiting:
                yield waiting
            waiting = following
        if waiting:
            yield waiting

    def _read_ahead(self, steps: Iterator[Window]) -> Generator[tuple[Batch, int]]:
        """Read steps in their order, `STEPS_AHEAD` of them at a time."""
        reading: list[Future[tuple[Batch, int]]] = []
        try:
            for step in islice(steps, STEPS_AHEAD):
                reading.append(self._readers.submit(self._read, *step))
            while reading:
                result = reading.pop(0).result()
                for step in islice(steps, 1):
                    reading.append(self._readers.submit(self._read, *step))
                yield result
        finally:
            # The epoch may end early: by an error, or because the program is to stop.
            for future in reading:
                future.cancel()

    def _read(self, indices: np.ndarray, mask: np.ndarray) -> tuple[Batch, int]:
        """Read this process's rows of a step; return them and the step's images."""
        rows = local_rows(indices.shape[1], self.mesh)
        local = indices[:, rows]
        batch = Batch(self.images[local], self.labels[local], mask[:, rows])
        return batch, int(mask.sum())
