"""Where an epoch's images come from: a resident feed has them all on the devices."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol

import numpy as np
from jax.sharding import Mesh

from jaxmed.training.batches import windows
from jaxmed.training.state import Images, StepPlan
from jaxmed.training.step import TrainStep, compiled_train_step


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

    def parts(self, order: np.ndarray, start: int = 0) -> Iterator[Part]:
        """Yields an epoch: the images of `order`, from step `start` on."""
        ...


@dataclass(frozen=True, kw_only=True)
class ResidentFeed:
    """All images lie on the devices; only indices travel.

    Attributes:
        images: a split, on every device of the mesh.
        batch_size: images a batch.
        accumulate: batches a step.
        mesh: the devices.
    """

    images: Images
    batch_size: int
    accumulate: int
    mesh: Mesh

    def program(self, definition: Any, plan: StepPlan) -> TrainStep:
        """Compiles the training step."""
        return compiled_train_step(definition, plan, self.mesh)

    def parts(self, order: np.ndarray, start: int = 0) -> Iterator[Part]:
        """Yields the steps one by one."""
        found = windows(order, self.batch_size, self.mesh.size, self.accumulate)
        for indices, mask in islice(found, start, None):
            arguments = {"images": self.images, "indices": indices, "mask": mask}
            yield Part(arguments, 1, int(mask.sum()))
