"""The preprocessing that a model's weights expect."""

import jax.numpy as jnp
import numpy as np

from jaxmed.data.images.resizing import SQUASH, Resizing
from jaxmed.data.images.window import STORED_BITS, Window
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier


def preprocessing_of(
    model: Classifier,
    image_size: int,
    resizing: Resizing = SQUASH,
    window: Window = STORED_BITS,
) -> Preprocessing:
    """Return what `fit` and `predict_split` do with images unless told otherwise.

    Args:
        model: decides the channels, and normalizes by its `mean` and `std`.
        image_size: pixels of a side.
        resizing: how images become squares of it.
        window: which gray values of files of more than 8 bits are black and white.

    Raises:
        InputError: the model has another number of channels than 1 or 3.
    """
    channels = model.in_channels
    if channels not in (1, 3):
        raise InputError(
            f"The model takes {channels} channels, and data sets have 1 or 3. "
            "Build it with in_channels=1 or 3."
        )
    return Preprocessing(
        image_size=image_size,
        channels=channels,
        mean=model.mean,
        std=model.std,
        resizing=resizing,
        window=window,
    )


def as_seen(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """Return images as a map is of them: without what is cropped, with padding."""
    if preprocessing.resizing.mode == "squash":
        return images
    seen = np.asarray(preprocessing.resize(jnp.asarray(images)))
    return np.rint(seen).clip(0, 255).astype(np.uint8)
