"""A run as one JAX program in a file, which needs JAX and nothing of ours to run."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from jaxmed.data.transforms.preprocess import AnySizePreprocessing
from jaxmed.data.transforms.test_time import VIEWS, see
from jaxmed.evaluation.calibration import calibrated_probabilities

if TYPE_CHECKING:
    from jaxmed.runs.trained_model import TrainedModel

PLATFORMS = ("cpu", "cuda", "tpu")
Program = Callable[[jax.Array], dict[str, jax.Array]]


def build_program(trained: "TrainedModel") -> Program:
    """Build the function that a run is in the end.

    Args:
        trained: of the run.

    Returns:
        From uint8 (n, h, w, channels of the network), of any size, to "probabilities"
        after and "scores" before calibration, each float32 (n, k).
    """
    preprocessing = AnySizePreprocessing(**vars(trained.preprocessing))

    def program(images: jax.Array) -> dict[str, jax.Array]:
        seen = [
            see(images, i, views=trained.views, preprocessing=preprocessing)
            for i in range(VIEWS[trained.views])
        ]
        together = jnp.concatenate(seen)
        # The networks of an ensemble are averaged as views are.
        logits = jnp.concatenate(
            [network.model(together) for network in trained.networks]
        )
        count = len(seen) * len(trained.networks)
        logits = logits.reshape(count, images.shape[0], logits.shape[-1])
        calibrated, before = calibrated_probabilities(
            logits, task=trained.task, scaling=trained.scaling, xp=jnp
        )
        return {"probabilities": calibrated, "scores": before}

    return program


def write_stablehlo(trained: "TrainedModel", path: Path) -> None:
    """Write `build_program`'s function, for CPUs, NVIDIA's GPUs and TPUs.

    The weights are in it. Products are computed in full float32 everywhere, so that
    all platforms give the same probabilities.
    """
    channels = trained.preprocessing.channels
    shape = export.symbolic_shape(f"batch, height, width, {channels}")
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    with jax.default_matmul_precision("highest"):
        program = jax.jit(build_program(trained))
        exported = export.export(program, platforms=PLATFORMS)(images)
    path.write_bytes(exported.serialize())


def open_stablehlo(path: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Open what `write_stablehlo` wrote.

    Returns:
        A function from uint8 images to probabilities after and before calibration.
    """
    exported = export.deserialize(bytearray(path.read_bytes()))

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = jax.jit(exported.call)(images)
        return np.asarray(outputs["probabilities"]), np.asarray(outputs["scores"])

    return run
