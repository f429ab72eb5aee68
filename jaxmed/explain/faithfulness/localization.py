"""Agreement of maps with regions that an expert has marked.

Everything here takes maps (n, h, w) in [0, 1], as `explain` gives them, and boolean
masks of the same shape; `box_masks` makes masks of boxes.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt

from jaxmed.errors import InputError


def pointing_game(
    maps: np.ndarray, masks: np.ndarray, *, tolerance: float = 0
) -> np.ndarray:
    """Tell whether a map's highest pixel lies in the mask: bool (n,).

    Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, section
    4.2, where the tolerance is 15 pixels. A map of zeros misses.

    Args:
        tolerance: how far from the mask, in pixels, still counts.
    """
    _check(maps, masks)
    hits = []
    for cam, mask in zip(maps, masks, strict=True):
        highest = np.unravel_index(cam.argmax(), cam.shape)
        distance = np.asarray(distance_transform_edt(~mask))[highest]
        hits.append(bool(cam.max() > 0 and mask.any() and distance <= tolerance))
    return np.array(hits)


def energy_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the share of a map's sum that lies in the mask: float (n,) in [0, 1].

    Wang et al., "Score-CAM", CVPR workshops 2020, section 4.3, the energy-based
    pointing game. NaN for a map of zeros, which has nothing to share.
    """
    _check(maps, masks)
    sums = maps.sum(axis=(1, 2), dtype=np.float64)
    inside = (maps * masks).sum(axis=(1, 2), dtype=np.float64)
    return np.divide(inside, sums, out=np.full(len(maps), np.nan), where=sums > 0)


def overlap(
    maps: np.ndarray, masks: np.ndarray, *, threshold: float = 0.5
) -> np.ndarray:
    """Return the intersection over union of map and mask: float (n,) in [0, 1].

    Args:
        threshold: of a map's largest value, from where on a pixel counts, in (0, 1].
            Zhou et al. (CVPR 2016, section 3.2) take 0.2.

    Raises:
        InputError: a threshold out of range, or masks that do not fit the maps.
    """
    _check(maps, masks)
    if not 0 < threshold <= 1:
        raise InputError(f"The threshold must be in (0, 1], got {threshold}.")
    highest = maps.max(axis=(1, 2), keepdims=True)
    marked = (maps >= threshold * highest) & (highest > 0)
    both = (marked & masks).sum(axis=(1, 2))
    either = (marked | masks).sum(axis=(1, 2))
    return np.divide(both, either, out=np.zeros(len(maps)), where=either > 0)


def box_masks(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Make masks of boxes.

    Args:
        boxes: (n, 4): left, top, right and bottom edge in pixels. The pixel (y, x)
            is in the box if its center, (y + 0.5, x + 0.5), is.
        shape: height and width.

    Returns:
        bool (n, h, w).
    """
    left, top, right, bottom = np.asarray(boxes, float).T[:, :, None, None]
    y = np.arange(shape[0])[:, None] + 0.5
    x = np.arange(shape[1]) + 0.5
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)


def _check(maps: np.ndarray, masks: np.ndarray) -> None:
    if maps.ndim != 3 or masks.shape != maps.shape or masks.dtype != bool:
        raise InputError(
            "Maps need boolean masks of their own shape (n, h, w), got "
            f"{masks.dtype} of the shape {masks.shape} for maps of {maps.shape}."
        )
