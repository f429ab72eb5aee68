"""Probabilities for images."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.batching import map_batches
from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.data.images.lazy import ImageArray
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.data.transforms.test_time import VIEWS, check_views, see
from jaxmed.evaluation.predictions import Predictions
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.outputs import probabilities
from jaxmed.models.parameters import Arrays, Parts, merge, split
from jaxmed.runtime.progress import progress
from jaxmed.runtime.sharding import (
    Devices,
    batch_sharding,
    data_mesh,
    local_rows,
    replicate,
    replicated_sharding,
    shard_batch,
)

# What a small validation split's batch grows to, so that a large test split is not
# predicted by the handful.
SMALL = 64


def largest_batch() -> int:
    """Returns how many images go through the network at once, without gradients.

    The maps of many images do not stay in a CPU's caches: a ResNet-18 at 112 pixels
    takes 285 images a second by 32 and 225 by 175.
    """
    return 32 if jax.default_backend() == "cpu" else 256


def evaluation_batch(data: Dataset, limit: int | None = None) -> int:
    """Returns images a batch such that one program evaluates every split.

    Args:
        data: validation, which every epoch has, is cut into batches with next to no
            padding.
        limit: by default `largest_batch`.
    """
    count = max(len(data.val), min(len(data.test), SMALL))
    return -(-count // -(-count // (limit or largest_batch())))


def compute_logits(
    definition: Any,
    weights: Arrays,
    images: ImageArray,
    *,
    preprocessing: Preprocessing,
    mesh: Mesh,
    batch_size: int,
    start_stage: str | None = None,
    description: str | None = None,
    views: str = "none",
) -> np.ndarray:
    """Runs the network over images in batches of one shape, the last one padded.

    Args:
        definition: a model's, in eval mode.
        weights: all parameters and statistics, by path.
        images: uint8 (n, h, w, c), an array or `LazyImages`.
        preprocessing: uint8 images to network input.
        mesh: the devices.
        batch_size: images a batch; the program is compiled for it.
        start_stage: the stage that `images` are the input of, if they are cached
            activations; see `Classifier.stage_input`.
        description: shown as progress; None shows nothing.
        views: of each image, see `jaxmed.data.transforms.test_time`.

    Returns:
        float32 (n, k); (n, views, k) of several views.
    """
    run = compiled_logits(definition, preprocessing, mesh, views, start_stage)

    def compute(indices):
        batch = shard_batch(images[indices[local_rows(len(indices), mesh)]], mesh)
        return [run(weights, batch, view) for view in range(VIEWS[views])]

    chunks = []
    shown = progress(description or "", len(images), unit="images")
    with shown if description else nullcontext(lambda amount: None) as advance:
        for indices, of_views in map_batches(
            compute, len(images), batch_size, mesh.size
        ):
            chunks.append(np.stack(of_views, axis=1))
            advance(len(indices))
    logits = np.concatenate(chunks)
    return logits[:, 0] if views == "none" else logits


@lru_cache(maxsize=32)
def compiled_logits(
    definition: Any,
    preprocessing: Preprocessing,
    mesh: Mesh,
    views: str = "none",
    start_stage: str | None = None,
) -> Callable[[Arrays, ArrayLike, int], jax.Array]:
    """Compiles prediction: weights by path, uint8 images and a view's number to logits.

    All views are one program. With a `start_stage` the images are cached activations,
    the input of that stage, which have no views.
    """
    replicated, sharded = replicated_sharding(mesh), batch_sharding(mesh)

    def logits(weights, images, number):
        model = merge(definition, weights, {})
        if start_stage:
            return model(images.astype(jnp.float32), start_stage=start_stage)
        return model(see(images, number, views=views, preprocessing=preprocessing))

    return jax.jit(
        logits, in_shardings=(replicated, sharded, replicated), out_shardings=replicated
    )


def eval_parts(model: Classifier) -> Parts:
    """Takes a model apart with every BatchNorm layer in eval mode."""
    set_training_norms(model, ())
    return split(model)


def predict(
    model: Classifier,
    images: ImageArray,
    *,
    preprocessing: Preprocessing,
    task: str,
    batch_size: int | None = None,
    devices: Devices | None = None,
    description: str = "Predicting",
    views: str = "none",
) -> np.ndarray:
    """Computes class probabilities, before calibration.

    Args:
        model: its BatchNorm layers are put in eval mode.
        images: uint8 (n, h, w, c), n at least 1, at any size.
        preprocessing: what the model was trained with.
        task: see `jaxmed.data.dataset.Task`.
        batch_size: images a batch; by default `largest_batch`, or all if fewer.
        devices: by default all there are.
        description: of the progress shown.
        views: test-time augmentation by its name in
            `jaxmed.data.transforms.test_time`, over which
            probabilities are averaged.

    Returns:
        float32 (n, k): rows of a softmax, or independent probabilities if
        multi-label; (n, 2) of a binary task, with one logit too.

    Raises:
        InputError: views that there are not, or that the preprocessing does not have.
    """
    check_views(views, preprocessing.resizing)
    mesh = data_mesh(devices)
    definition, params, stats = eval_parts(model)
    logits = compute_logits(
        definition,
        replicate(params | stats, mesh),
        images,
        preprocessing=preprocessing,
        mesh=mesh,
        batch_size=batch_size or min(largest_batch(), len(images)),
        description=description,
        views=views,
    )
    if views == "none":
        return probabilities(logits, task)
    return mean_probabilities(logits, task)


def mean_probabilities(logits: np.ndarray, task: str) -> np.ndarray:
    """Maps logits of several views, (n, views, k), to their mean probabilities.

    Returns:
        float32 (n, k), as `probabilities`.
    """
    probs = probabilities(logits, task)
    return probs.mean(axis=1, dtype=np.float64).astype(np.float32)


def predict_split(
    model: Classifier,
    data: Dataset,
    split: str,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int | None = None,
    devices: Devices | None = None,
    views: str = "none",
) -> Predictions:
    """Predicts a split of a data set: what evaluation takes.

    Args:
        model: its BatchNorm layers are put in eval mode.
        data: whose images.
        split: "train", "val" or "test".
        preprocessing: what the model was trained with; by default `fit`'s default.
        batch_size: by default one that all splits and `fit` share, with the compiled
            program.
        devices, views: see `predict`.
    """
    if preprocessing is None:
        preprocessing = preprocessing_of(
            model, data.image_size, data.resizing, data.window
        )
    probs = predict(
        model,
        getattr(data, split).images,
        preprocessing=preprocessing,
        task=data.task,
        batch_size=batch_size or evaluation_batch(data),
        devices=devices,
        description=f"Predicting {split}",
        views=views,
    )
    return as_predictions(data, split, probs)


def as_predictions(data: Dataset, split: str, probs: np.ndarray) -> Predictions:
    """Puts probabilities (n, k) together with the labels and ids of their split.

    Groups and columns come along; groups only if all splits have them.
    """
    part = getattr(data, split)
    grouped = all(getattr(data, name).groups is not None for name in SPLITS)
    return Predictions(
        split=split,
        ids=part.ids,
        labels=part.labels,
        probs=probs,
        class_names=data.class_names,
        task=data.task,
        groups=part.groups if grouped else None,
        columns=part.columns,
    )
