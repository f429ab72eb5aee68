"""What images are recognized by: their bytes, a perceptual hash, a thumbnail.

The hash is the 64-bit pHash (Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions", 2010, section 3.2): an image is averaged down to 32 x 32 gray
pixels, of whose cosine transform (type II) the 8 x 8 lowest frequencies are compared
with their median. The constant term, which is brightness, is left out: 63 bits.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from jaxmed.data.images.lazy import ImageArray

SIDE = 32
"""Of a thumbnail, pixels."""
LOW = 8
"""Frequencies kept, in each direction."""
MOST_VALUES, MOST_IMAGES = 2**24, 1024
"""Values of pixels, and images, worked on at once, which bounds the memory."""


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """Of n images.

    Attributes:
        digests: uint64 (n,); equal where all pixels are.
        hashes: uint64 (n,); few bits differ where images look alike.
        thumbnails: float16 (n, 1024), mean 0 and length 1, so that the product of two
            is their correlation in [-1, 1]; about 0 for a constant image.
        deviations: float32 (n,), standard deviation of the gray levels, 0 to 127.5.
    """

    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    deviations: np.ndarray


def part_length(images: ImageArray) -> int:
    """Returns how many of the images (n, h, w, c) to work on at once."""
    return max(1, min(MOST_IMAGES, MOST_VALUES // math.prod(images.shape[1:])))


def take_fingerprints(images: np.ndarray) -> Fingerprints:
    """Takes the fingerprints of uint8 images (n, h, w, c), at least one."""
    gray = images.mean(axis=3, dtype=np.float32)
    thumbnails = shrink(gray)
    flat = thumbnails.reshape(len(images), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return Fingerprints(
        digests=np.array([_digest(image) for image in images], np.uint64),
        hashes=hash_thumbnails(thumbnails),
        thumbnails=(flat / np.maximum(norms, 1)).astype(np.float16),
        deviations=gray.std(axis=(1, 2)),
    )


def join_fingerprints(parts: Sequence[Fingerprints]) -> Fingerprints:
    """Joins the fingerprints of several groups of images, in their order."""
    names = [field.name for field in fields(Fingerprints)]
    joined = {n: np.concatenate([getattr(part, n) for part in parts]) for n in names}
    return Fingerprints(**joined)


def shrink(gray: np.ndarray) -> np.ndarray:
    """Averages float32 images (n, h, w) over areas: (n, 32, 32).

    Pixels that lie on an edge count with their share; so small images are enlarged.
    """
    height, width = gray.shape[1:]
    return _areas(height) @ gray @ _areas(width).T


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Computes the hashes of gray thumbnails, float32 (n, 32, 32).

    Returns:
        uint64 (n,).
    """
    order, place = np.arange(LOW)[:, None], np.arange(SIDE)
    cosines = np.cos(np.pi * order * (2 * place + 1) / (2 * SIDE)).astype(np.float32)
    waves = (cosines @ thumbnails @ cosines.T).reshape(len(thumbnails), LOW * LOW)
    above = waves > np.median(waves[:, 1:], axis=1, keepdims=True)
    above[:, 0] = False
    return np.packbits(above, axis=1).view(np.uint64)[:, 0]


def _areas(side: int) -> np.ndarray:
    """Returns the weights, float32 (32, side), that average `side` pixels to 32."""
    edges = np.linspace(0, side, SIDE + 1)
    pixels = np.arange(side)
    shares = np.minimum(edges[1:, None], pixels + 1)
    shares -= np.maximum(edges[:-1, None], pixels)
    shares = np.clip(shares, 0, None)
    return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def _digest(image: np.ndarray) -> int:
    digest = hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8)
    return int.from_bytes(digest.digest(), "little")
