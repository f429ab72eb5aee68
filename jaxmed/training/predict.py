"""Probabilities for images."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jaxmed.data.dataset import Dataset
from jaxmed.data.preprocess import Preprocessing
from jaxmed.evaluation.predictions import Predictions
from jaxmed.models.classifier import Classifier
from jaxmed.models.normalization import set_training_norms
from jaxmed.models.parameters import Arrays, Parts, merge, split
from jaxmed.progress import progress
from jaxmed.training.batches import batches
from jaxmed.training.objective import probabilities
from jaxmed.training.preprocessing import preprocessing_of
from jaxmed.training.sharding import (
    Devices,
    data_mesh,
    over_batch,
    replicate,
    replicated,
)

BATCH_SIZE = 256


def compute_logits(
    definition: Any,
    weights: Arrays,
    images: np.ndarray,
    *,
    preprocessing: Preprocessing,
    mesh: Mesh,
    entry: str | None = None,
    batch_size: int = BATCH_SIZE,
    description: str | None = None,
) -> np.ndarray:
    """Runs the network over images in batches of one shape.

    Args:
        definition: a model's, in eval mode.
        weights: all parameters and statistics, by path.
        images: uint8 (n, h, w, c).
        preprocessing: uint8 images to network input.
        mesh: the devices.
        entry: the stage that `images` enter, if they are no images; see
            `Classifier.entering`.
        batch_size: images a batch.
        description: shown as progress; None shows nothing.

    Returns:
        float32 (n, k).
    """
    run = compiled_logits(definition, preprocessing, mesh, entry)
    batch_size = min(batch_size, len(images))
    order = np.arange(len(images), dtype=np.int32)
    chunks = []

    def work(advance):
        for indices, mask in batches(order, batch_size, mesh.size):
            count = int(mask.sum())
            chunks.append(np.asarray(run(weights, images[indices]))[:count])
            advance(count)

    if description is None:
        work(lambda amount: None)
    else:
        with progress(description, len(images), unit="images") as advance:
            work(advance)
    return np.concatenate(chunks)


@lru_cache(maxsize=32)
def compiled_logits(
    definition: Any,
    preprocessing: Preprocessing,
    mesh: Mesh,
    entry: str | None = None,
) -> Callable[[Arrays, ArrayLike], jax.Array]:
    """Compiles prediction: all weights by path, and uint8 images, to logits.

    With an `entry`, what enters that stage is in the images' place.
    """
    whole, cut = replicated(mesh), over_batch(mesh)

    def logits(weights, images):
        inputs = images.astype(jnp.float32) if entry else preprocessing(images)
        return merge(definition, weights, {})(inputs, entry=entry)

    return jax.jit(logits, in_shardings=(whole, cut), out_shardings=whole)


def eval_parts(model: Classifier) -> Parts:
    """Takes a model apart with every BatchNorm layer in eval mode."""
    set_training_norms(model, ())
    return split(model)


def predict(
    model: Classifier,
    images: np.ndarray,
    *,
    preprocessing: Preprocessing,
    task: str,
    batch_size: int = BATCH_SIZE,
    devices: Devices | None = None,
    description: str = "Predicting",
) -> np.ndarray:
    """Computes class probabilities, before calibration.

    Args:
        model: its BatchNorm layers are put in eval mode.
        images: uint8 (n, h, w, c), n at least 1, at any size.
        preprocessing: what the model was trained with.
        task: see `jaxmed.data.dataset.Task`.
        batch_size: images a batch.
        devices: by default all there are.
        description: of the progress shown.

    Returns:
        float32 (n, k): rows of a softmax, or independent probabilities if
        multi-label; (n, 2) of a binary task, with one logit too.
    """
    mesh = data_mesh(devices)
    definition, params, stats = eval_parts(model)
    logits = compute_logits(
        definition,
        replicate(params | stats, mesh),
        images,
        preprocessing=preprocessing,
        mesh=mesh,
        batch_size=batch_size,
        description=description,
    )
    return probabilities(logits, task)


def predict_split(
    model: Classifier,
    data: Dataset,
    split: str,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int = BATCH_SIZE,
    devices: Devices | None = None,
) -> Predictions:
    """Predicts a split of a data set: what evaluation takes.

    Args:
        model: its BatchNorm layers are put in eval mode.
        data: whose images.
        split: "train", "val" or "test".
        preprocessing: what the model was trained with; by default `fit`'s default.
        batch_size, devices: see `predict`.
    """
    part = getattr(data, split)
    probs = predict(
        model,
        part.images,
        preprocessing=preprocessing or preprocessing_of(model, data.image_size),
        task=data.task,
        batch_size=batch_size,
        devices=devices,
        description=f"Predicting {split}",
    )
    return as_predictions(data, split, probs)


def as_predictions(data: Dataset, split: str, probs: np.ndarray) -> Predictions:
    """Puts probabilities (n, k) together with the labels and ids of their split."""
    part = getattr(data, split)
    return Predictions(
        split=split,
        ids=part.ids,
        labels=part.labels,
        probs=probs,
        class_names=data.class_names,
        task=data.task,
    )
