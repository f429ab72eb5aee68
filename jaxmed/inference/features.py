"""Pooled features of images, and probabilities with them."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.batching import batches
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.data.transforms.test_time import VIEWS, check_views
from jaxmed.inference.forward import (
    compiled_logits,
    eval_parts,
    largest_batch,
    mean_probabilities,
)
from jaxmed.models.classifier import Classifier
from jaxmed.models.outputs import probabilities
from jaxmed.models.parameters import Arrays, merge
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import (
    Devices,
    batch_sharding,
    data_mesh,
    replicate,
    replicated_sharding,
    shard_batch,
)


class Network:
    """A model on the devices, ready for batch after batch of images.

    Args:
        model: its BatchNorm layers are put in eval mode.
        preprocessing: what it was trained with.
        task: see `jaxmed.data.dataset.Task`.
        views: over which probabilities are averaged, see
        `jaxmed.data.transforms.test_time`.
        devices: by default this process's own, so that one of several can use it alone.

    Raises:
        InputError: views that there are not, or that the preprocessing does not have.
    """

    def __init__(
        self,
        model: Classifier,
        preprocessing: Preprocessing,
        task: str,
        *,
        views: str = "none",
        devices: Devices | None = None,
    ):
        check_views(views, preprocessing.resizing)
        self._preprocessing, self._task, self._views = preprocessing, task, views
        self._mesh = data_mesh(devices or jax.local_devices())
        self._definition, params, stats = eval_parts(model)
        self._weights = replicate(params | stats, self._mesh)
        self._both = _compiled_both(self._definition, preprocessing, self._mesh)

    def __call__(
        self, images: np.ndarray, rows: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Compute probabilities, before calibration, and pooled features.

        Args:
            images: uint8 (n, h, w, c), n at least 1.
            rows: images of a batch, at least n, which it is filled up to, so that one
                compiled program serves batches of any length; None is n.

        Returns:
            float32 (n, k), as of `jaxmed.inference.forward.predict`; and float32 (n,
            d), of the image itself where there are more views.
        """
        batch = shard_batch(self._filled(images, rows or len(images)), self._mesh)
        logits, features = self._both(self._weights, batch)
        if self._views == "none":
            probs = probabilities(np.asarray(logits), self._task)
        else:
            each = [
                self._of_view(batch, number) for number in range(VIEWS[self._views])
            ]
            probs = mean_probabilities(np.stack(each, axis=1), self._task)
        return probs[: len(images)], np.asarray(features)[: len(images)]

    def _filled(self, images: np.ndarray, rows: int) -> np.ndarray:
        wanted = -(-rows // self._mesh.size) * self._mesh.size
        padding = images[:1].repeat(wanted - len(images), axis=0)
        return np.concatenate([images, padding])

    def _of_view(self, batch: jax.Array, number: int) -> np.ndarray:
        run = compiled_logits(
            self._definition, self._preprocessing, self._mesh, self._views
        )
        return np.asarray(run(self._weights, batch, number))


def compute_features(
    model: Classifier,
    images: ImageArray,
    *,
    preprocessing: Preprocessing,
    task: str,
    batch_size: int | None = None,
    description: str = "Features",
) -> np.ndarray:
    """Compute the pooled features that enter the head, float32 (n, d).

    Args:
        model, preprocessing, task: see `Network`.
        images: uint8 (n, h, w, c), n at least 1, an array or `LazyImages`.
        batch_size: images a batch; by default `largest_batch`, or all if fewer.
        description: of the progress shown.
    """
    network = Network(model, preprocessing, task)
    size = batch_size or min(largest_batch(), len(images))
    found = []
    with progress(description, len(images), unit="images") as advance:
        for rows, mask in batches(np.arange(len(images), dtype=np.int32), size):
            count = int(mask.sum())
            found.append(network(images[rows])[1][:count])
            advance(count)
    return np.concatenate(found)


@lru_cache(maxsize=32)
def _compiled_both(
    definition: Any, preprocessing: Preprocessing, mesh: Mesh
) -> Callable[[Arrays, ArrayLike], tuple[jax.Array, jax.Array]]:
    """Compiles weights by path and uint8 images to logits and pooled features."""
    whole, cut = replicated_sharding(mesh), batch_sharding(mesh)

    def both(weights, images):
        model = merge(definition, weights, {})
        pooled = model.stage_input("head", preprocessing(images))
        return model.head(pooled), pooled

    return jax.jit(both, in_shardings=(whole, cut), out_shardings=whole)
