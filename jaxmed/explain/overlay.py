"""A map as a picture: the image, and beside it the image with the map on it."""

import numpy as np
from PIL import Image

from jaxmed.errors import InputError

# Perceptually uniform and safe for color-blind readers. Of such color maps this one
# stays apart from what medical images are made of: its bright end is green and yellow,
# neither the white of an X-ray (inferno, magma) nor the pink and violet of a stain
# (plasma). jet and turbo are bright in the middle and show edges where there are none.
COLORS = "viridis"
# How much of the color there is where the map is one; none where it is zero, so that
# the image stays readable, and a map of zeros leaves it as it is.
OPACITY = 0.65
SMALLEST = 224


def overlay(image: np.ndarray, cam: np.ndarray) -> np.ndarray:
    """Draw an image and, to its right, the same image under its map.

    Args:
        image: uint8 (h, w, 3), or (h, w, 1) if gray.
        cam: float (h', w') in [0, 1]; stretched bilinearly over the image.

    Returns:
        uint8 (H, 2 W, 3). An image whose shorter side is below 224 pixels is first
        enlarged by a whole factor, its pixels becoming squares.

    Raises:
        InputError: another shape or type of image, or a map outside [0, 1].
    """
    if image.ndim != 3 or image.shape[2] not in (1, 3) or image.dtype != np.uint8:
        raise InputError(
            "overlay needs a uint8 image of the shape (h, w, 3) or (h, w, 1), got "
            f"{image.dtype} of the shape {image.shape}."
        )
    if cam.ndim != 2 or not ((cam >= 0) & (cam <= 1)).all():
        raise InputError(
            "overlay needs a map of the shape (h, w) within [0, 1], got the shape "
            f"{cam.shape} and {np.min(cam)} to {np.max(cam)}."
        )
    factor = max(1, -(-SMALLEST // min(image.shape[:2])))
    image = image.repeat(factor, axis=0).repeat(factor, axis=1)
    image = np.broadcast_to(image, (*image.shape[:2], 3))
    strength = _stretched(cam, image.shape[:2])
    opacity = OPACITY * strength[..., None]
    blended = (1 - opacity) * image + opacity * 255 * _colors(strength)
    right = np.round(blended).astype(np.uint8)
    return np.concatenate([image, right], axis=1)


def _stretched(cam: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape
    picture = Image.fromarray(cam.astype(np.float32))
    stretched = picture.resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(stretched), 0, 1)


def _colors(strength: np.ndarray) -> np.ndarray:
    """Maps (h, w) in [0, 1] to colors (h, w, 3) in [0, 1]."""
    import matplotlib

    return matplotlib.colormaps[COLORS](strength)[..., :3]
