"""Comparison of exported files with the model, on drawn images."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxmed.errors import InputError
from jaxmed.inference.forward import predict
from jaxmed.models.outputs import average_probabilities

if TYPE_CHECKING:
    from jaxmed.runs.trained_model import TrainedModel

TOLERANCE = 1e-4
# Height and width are no multiples of anything, which is where resizing goes wrong.
OTHER_SHAPE = (75, 91)

# Images to probabilities after and before calibration.
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Probe:
    """Drawn images, and a model's probabilities for them.

    Args:
        trained: whose model, in float32.
    """

    def __init__(self, trained: "TrainedModel"):
        shapes = [(5, *trained.image_shape), (1, *OTHER_SHAPE)]
        rng, channels = np.random.default_rng(0), trained.preprocessing.channels
        batches = [draw_images((*shape, channels), rng) for shape in shapes]
        self._batches = [
            (images, predict_images(trained, images)) for images in batches
        ]

    def compare(self, run: Run, file: str) -> float:
        """Run what was exported on the images.

        Args:
            run: what was opened again.
            file: its name, for the message.

        Returns:
            The largest difference of a probability.

        Raises:
            InputError: it is above `TOLERANCE`, or there is NaN.
        """
        differences = [
            np.abs(ours - theirs).max()
            for images, expected in self._batches
            for ours, theirs in zip(expected, run(images), strict=True)
        ]
        largest = float(np.max(differences))
        # Written so that NaN is refused too.
        if not largest <= TOLERANCE:
            raise InputError(
                f"{file} is not kept: opened again, its probabilities differ from the "
                f"model's by {largest:.1e}, and {TOLERANCE:.0e} is allowed."
            )
        return largest


def predict_images(
    trained: "TrainedModel", images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute a run's probabilities in full float32, after and before calibration."""
    # On GPUs and TPUs the factors of products would be rounded otherwise.
    with jax.default_matmul_precision("highest"):
        each = [
            predict(
                network.model,
                images,
                preprocessing=trained.preprocessing,
                task=trained.task,
                views=trained.views,
            )
            for network in trained.networks
        ]
    scores = average_probabilities(each)
    if trained.scaling is None:
        return scores, scores
    return trained.scaling.calibrate(scores, trained.task), scores


def draw_images(
    shape: tuple[int, int, int, int], rng: np.random.Generator
) -> np.ndarray:
    """Draw images of all contrasts: waves of some length each, and noise on them.

    Args:
        shape: (n, h, w, c).
        rng: the source of randomness.

    Returns:
        uint8 of that shape.
    """
    n, height, width, channels = shape
    waves = rng.uniform(1, 12, (2, n, 1, 1, channels))
    phases = rng.uniform(0, 6, (n, 1, 1, channels))
    down = np.linspace(0, 1, height)[:, None, None]
    across = np.linspace(0, 1, width)[:, None]
    pattern = np.sin(waves[0] * down + waves[1] * across + phases)
    contrast = rng.uniform(20, 120, (n, 1, 1, 1))
    noise = rng.normal(0, 1, shape) * rng.uniform(0, 40, (n, 1, 1, 1))
    return (128 + contrast * pattern + noise).clip(0, 255).astype(np.uint8)
