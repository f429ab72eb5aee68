"""Pooled features of images, means of layers, and probabilities with them."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.batching import map_batches
from jaxmed.data.dataset import Split
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.data.transforms.test_time import VIEWS, check_views
from jaxmed.inference.activations import (
    ActivationStore,
    FrozenStages,
    get_activations,
)
from jaxmed.inference.forward import compiled_logits, eval_parts, mean_probabilities
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
        """Compute probabilities, before calibration, and means of layers.

        Args:
            images: uint8 (n, h, w, c), n at least 1.
            rows: images of a batch, at least n, which it is filled up to, so that one
                compiled program serves batches of any length; None is n.

        Returns:
            float32 (n, k), as of `jaxmed.inference.forward.predict`; and float32 (n,
            d), see `mean_over_positions`, of the image itself where there are more
            views.
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
            view_logits = [
                of_view(self._weights, batch, number) for number in range(views)
            ]
            return *self._both(self._weights, batch), view_logits

        for _, (logits, features, view_logits) in map_batches(
            compute, len(images), batch_size, self._mesh.size
        ):
            if views:
                probs = mean_probabilities(np.stack(view_logits, axis=1), self._task)
            else:
                probs = probabilities(logits, self._task)
            yield probs, features


def compute_features(
    model: Classifier,
    split: Split,
    *,
    preprocessing: Preprocessing,
    store: ActivationStore | None = None,
    description: str = "Features",
) -> np.ndarray:
    """Compute the pooled features that enter the head, float32 (n, d).

    Args:
        model: its BatchNorm layers are put in eval mode.
        split: whose images.
        preprocessing: uint8 images to the model's input.
        store: keeps the features; None computes them.
        description: of the progress shown.
    """
    mesh = data_mesh(jax.local_devices())
    stages = FrozenStages.of(model, "head", preprocessing, mesh)
    with progress(description, len(split), unit="images") as advance:
        return get_activations(stages, split, store, advance)


def compute_layer_means(
    model: Classifier,
    split: Split,
    *,
    preprocessing: Preprocessing,
    store: ActivationStore | None = None,
    description: str = "Layers",
) -> np.ndarray:
    """Compute what `mean_over_positions` is of each image, float32 (n, d).

    Args:
        model: its BatchNorm layers are put in eval mode.
        split: whose images.
        preprocessing: uint8 images to the model's input.
        store: keeps them for other heads on the same backbone; None computes them.
        description: of the progress shown.
    """
    mesh = data_mesh(jax.local_devices())
    definition, params, stats = eval_parts(model)
    weights = params | stats
    layers = FrozenStages(
        start_stage="head",
        shape=(sum(layer_widths(model, preprocessing)),),
        dtype=jnp.float32,
        mesh=mesh,
        weights=replicate(weights, mesh),
        needed={k: v for k, v in weights.items() if not k.startswith("head.")},
        compute=_compiled_means(definition, preprocessing, mesh),
    )
    with progress(description, len(split), unit="images") as advance:
        return get_activations(layers, split, store, advance)


def stage_maps(model: Classifier, images: jax.Array) -> list[jax.Array]:
    """Compute what each stage below the head gives, float32 (n, h, w, c).

    Args:
        model: in eval mode.
        images: float32 (n, h, w, c), normalized.
    """
    maps = [images]
    for stage, following in pairwise(model.stages):
        stop = None if following == "head" else following
        x = model.features(maps[-1], start=stage, stop=stop)
        # A stage that belongs to the pooling gives what it gets.
        if x is not maps[-1]:
            maps.append(x)
    return maps[1:]


def mean_over_positions(maps: Sequence[jax.Array]) -> jax.Array:
    """Average maps (n, ..., c) over positions: (n, d), side by side."""
    means = [x.mean(axis=tuple(range(1, x.ndim - 1))) for x in maps]
    return jnp.concatenate(means, axis=-1)


def layer_widths(model: Classifier, preprocessing: Preprocessing) -> list[int]:
    """Return the channels of each of `stage_maps`."""
    size = preprocessing.image_size
    image = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    definition, params, stats = eval_parts(model)
    maps = jax.eval_shape(
        lambda weights, x: stage_maps(merge(definition, weights, {}), x),
        params | stats,
        image,
    )
    return [array.shape[-1] for array in maps]


@lru_cache(maxsize=32)
def _compiled_means(definition: Any, preprocessing: Preprocessing, mesh: Mesh) -> Any:
    replicated, sharded = replicated_sharding(mesh), batch_sharding(mesh)

    def layer_means(weights, images):
        model = merge(definition, weights, {})
        return mean_over_positions(stage_maps(model, preprocessing(images)))

    return jax.jit(
        layer_means, in_shardings=(replicated, sharded), out_shardings=replicated
    )


@lru_cache(maxsize=32)
def _compiled_both(
    definition: Any, preprocessing: Preprocessing, mesh: Mesh
) -> Callable[[Arrays, ArrayLike], tuple[jax.Array, jax.Array]]:
    """Compiles weights by path and uint8 images to logits and means of layers."""
    replicated, sharded = replicated_sharding(mesh), batch_sharding(mesh)

    def both(weights, images):
        model = merge(definition, weights, {})
        maps = stage_maps(model, preprocessing(images))
        return model.classify(maps[-1]), mean_over_positions(maps)

    return jax.jit(both, in_shardings=(replicated, sharded), out_shardings=replicated)
