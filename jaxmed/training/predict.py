"""Probabilities for images."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
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
# What a small validation split's batch grows to, so that a large test split is not
# predicted by the handful.
SMALL = 64


def evaluation_batch(data: Dataset) -> int:
    """Returns images a batch such that one program evaluates every split.

    At most `BATCH_SIZE`, and such that validation, which every epoch has, is cut into
    batches with next to no padding.
    """
    count = max(len(data.val), min(len(data.test), SMALL))
    return -(-count // -(-count // BATCH_SIZE))


def compute_logits(
    definition: Any,
    weights: Arrays,
    images: np.ndarray,
    *,
    preprocessing: Preprocessing,
    mesh: Mesh,
    batch_size: int,
    description: str | None = None,
) -> np.ndarray:
    """Runs the network over images in batches of one shape, the last one padded.

    Args:
        definition: a model's, in eval mode.
        weights: all parameters and statistics, by path.
        images: uint8 (n, h, w, c), an array or `LazyImages`.
        preprocessing: uint8 images to network input.
        mesh: the devices.
        batch_size: images a batch; the program is compiled for it.
        description: shown as progress; None shows nothing.

    Returns:
        float32 (n, k).
    """
    run = compiled_logits(definition, preprocessing, mesh)
    order = np.arange(len(images), dtype=np.int32)
    chunks = []

    def work(advance):
        # Fetched one batch late: the next is read while this one is computed.
        running = None
        for indices, mask in batches(order, batch_size, mesh.size):
            following = run(weights, images[indices]), int(mask.sum())
            if running:
                fetch(*running, advance)
            running = following
        if running:
            fetch(*running, advance)

    def fetch(logits, count, advance):
        chunks.append(np.asarray(logits)[:count])
        advance(count)

    if description is None:
        work(lambda amount: None)
    else:
        with progress(description, len(images), unit="images") as advance:
            work(advance)
    return np.concatenate(chunks)


@lru_cache(maxsize=32)
def compiled_logits(
    definition: Any, preprocessing: Preprocessing, mesh: Mesh
) -> Callable[[Arrays, ArrayLike], jax.Array]:
    """Compiles prediction: all weights by path, and uint8 images, to logits."""
    whole, cut = replicated(mesh), over_batch(mesh)

    def logits(weights, images):
        return merge(definition, weights, {})(preprocessing(images))

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
        batch_size=min(batch_size, len(images)),
        description=description,
    )
    return probabilities(logits, task)


def predict_split(
    model: Classifier,
    data: Dataset,
    split: str,
    *,
    preprocessing: Preprocessing | None = None,
    batch_size: int | None = None,
    devices: Devices | None = None,
) -> Predictions:
    """Predicts a split of a data set: what evaluation takes.

    Args:
        model: its BatchNorm layers are put in eval mode.
        data: whose images.
        split: "train", "val" or "test".
        preprocessing: what the model was trained with; by default `fit`'s default.
        batch_size: by default one that all splits and `fit` share, with the compiled
            program.
        devices: see `predict`.
    """
    mesh = data_mesh(devices)
    definition, params, stats = eval_parts(model)
    logits = compute_logits(
        definition,
        replicate(params | stats, mesh),
        getattr(data, split).images,
        preprocessing=preprocessing or preprocessing_of(model, data.image_size),
        mesh=mesh,
        batch_size=batch_size or evaluation_batch(data),
        description=f"Predicting {split}",
    )
    probs = probabilities(logits, data.task)
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
