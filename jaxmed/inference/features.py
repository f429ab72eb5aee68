"""Pooled features of images, and probabilities with them."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.batching import map_batches
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
        size = rows or len(images)
        ((probs, features),) = self.batches(images, size)
        return probs, features

    def batches(
        self, images: ImageArray, batch_size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Compute the same for images (n, h, w, c), batch by batch."""
        views = 0 if self._views == "none" else VIEWS[self._views]
        of_view = compiled_logits(
            self._definition, self._preprocessing, self._mesh, self._views
        )

        def compute(indices: np.ndarray) -> Any:
            batch = shard_batch(images[indices], self._mesh)
            each = [of_view(self._weights, batch, number) for number in range(views)]
            return *self._both(self._weights, batch), each

        for _, (logits, features, each) in map_batches(
            compute, len(images), batch_size, self._mesh.size
        ):
            if views:
                probs = mean_probabilities(np.stack(each, axis=1), self._task)
            else:
                probs = probabilities(logits, self._task)
            yield probs, features


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
    chunks = []
    with progress(description, len(images), unit="images") as advance:
        for _, features in network.batches(images, size):
            chunks.append(features)
            advance(len(features))
    return np.concatenate(chunks)


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
