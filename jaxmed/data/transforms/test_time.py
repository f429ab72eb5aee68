"""Test-time augmentation: fixed views of an image, whose probabilities are averaged.

Nothing is drawn at random, so a prediction stays the same. As in training, only views
help that could be photographs of their own: none that is mirrored ("flip", "ten_crop",
"dihedral") where left and right differ in meaning, as on chest X-rays, where the mirror
image has its heart on the other side; "dihedral" only where there is no up, as under
a microscope.
"""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmed.data.images.resizing import Resizing, find_start
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError, unknown

# How often each name looks at an image.
VIEWS = {"none": 1, "flip": 2, "five_crop": 5, "ten_crop": 10, "dihedral": 8}
CROPS = ("five_crop", "ten_crop")


def check_views(views: str, resizing: Resizing) -> None:
    """Checks the name of views.

    Raises:
        InputError: it is not one of `VIEWS`, or is of crops, and images are not
            cropped.
    """
    if views not in VIEWS:
        raise unknown("test-time augmentation", views, VIEWS)
    if views in CROPS and resizing.mode != "crop":
        raise InputError(
            f"The test-time augmentation {views} takes the corners of what a crop "
            f"leaves out, and images are resized by {resizing.mode}. Resize by crop, "
            "or take flip."
        )


def see(
    images: jax.Array,
    number: jax.Array | int,
    *,
    views: str,
    preprocessing: Preprocessing,
) -> jax.Array:
    """Prepares one view of images for the network.

    Views are, in this order: "none", the image; "flip", the image and its mirror image;
    "dihedral", its four quarter turns (counterclockwise), then those of its mirror
    image; "five_crop", torchvision's FiveCrop of the square that
    `Resizing.stored_side` says, upper left, upper right, lower left, lower right and
    middle; "ten_crop", TenCrop of it, these and then those of its mirror image.

    Args:
        images: uint8 (n, h, w, 1 or 3).
        number: of the view, from 0; may be traced, so that all views are one program.
        views: their name, which `check_views` lets pass.
        preprocessing: what the network was trained with.

    Returns:
        float32 (n, image_size, image_size, channels), normalized.
    """
    if views == "none":
        return preprocessing(images)
    size = preprocessing.image_size
    side = preprocessing.resizing.stored_side(size) if views in CROPS else size
    mirrored, turns, top, left = jnp.asarray(list_views(views, side, size))[number]
    seen = preprocessing.resize(images, side)
    seen = jnp.where(mirrored, seen[:, :, ::-1], seen)
    shape = (seen.shape[0], size, size, seen.shape[3])
    seen = lax.dynamic_slice(seen, (0, top, left, 0), shape)
    if views == "dihedral":
        turned = [lambda x, k=k: jnp.rot90(x, k, axes=(1, 2)) for k in range(4)]
        seen = lax.switch(turns, turned, seen)
    return preprocessing.normalize(seen)


def list_views(views: str, side: int, size: int) -> np.ndarray:
    """Returns what is done in each view: mirrored, quarter turns, top, left.

    Args:
        views: their name, not "none".
        side: of the squares that views of `size` pixels are cut from.
        size: of the network's images.
    """
    if views == "dihedral":
        return np.array([(m, k, 0, 0) for m, k in product((0, 1), range(4))])
    far, middle = side - size, find_start(side, size)
    corners = [(0, 0), (0, far), (far, 0), (far, far), (middle, middle)]
    if views == "flip":
        corners = [(0, 0)]
    mirrors = (0,) if views == "five_crop" else (0, 1)
    return np.array([(m, 0, *corner) for m, corner in product(mirrors, corners)])
