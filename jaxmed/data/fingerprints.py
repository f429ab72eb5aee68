"""What images are recognised by: their bytes, a perceptual hash, a thumbnail.

The hash is the 64-bit pHash (Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions", 2010, section 3.2): an image is averaged down to 32 x 32 grey
pixels, of whose cosine transform (type II) the 8 x 8 lowest frequencies are compared
with their median. The constant term, which is brightness, is left out: 63 bits.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np

from jaxmed.data.lazy import ImageArray
from jaxmed.progress import Advance

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
        deviations: float32 (n,), standard deviation of the grey levels, 0 to 127.5.
    """

    digests: np.ndarray
    hashes: np.ndarray
    thumbnails: np.ndarray
    deviations: np.ndarray


def part_length(images: ImageArray) -> int:
    """Returns how many of the images (n, h, w, c) to work on at once."""
    return max(1, min(MOST_IMAGES, MOST_VALUES // math.prod(images.shape[1:])))


def take_fingerprints(
    images: ImageArray, advance: Advance = lambda count: None
) -> Fingerprints:
    """Takes the fingerprints of uint8 images (n, h, w, c).

    Args:
        images: at least one.
        advance: told the number of images after each part.
    """
    hashes, thumbnails, deviations = [], [], []
    digests: list[int] = []
    length = part_length(images)
    for start in range(0, len(images), length):
        part = images[start : start + length]
        digests += map(_digest, part)
        grey = part.mean(axis=3, dtype=np.float32)
        deviations.append(grey.std(axis=(1, 2)))
        small = shrink(grey)
        hashes.append(hash_thumbnails(small))
        flat = small.reshape(len(small), -1)
        flat = flat - flat.mean(axis=1, keepdims=True)
        norms = np.linalg.norm(flat, axis=1, keepdims=True)
        thumbnails.append((flat / np.maximum(norms, 1)).astype(np.float16))
        advance(len(part))
    return Fingerprints(
        digests=np.array(digests, np.uint64),
        hashes=np.concatenate(hashes),
        thumbnails=np.concatenate(thumbnails),
        deviations=np.concatenate(deviations),
    )


def shrink(grey: np.ndarray) -> np.ndarray:
    """Averages float32 images (n, h, w) over areas: (n, 32, 32).

    Pixels that lie on an edge count with their share; so small images are enlarged.
    """
    height, width = grey.shape[1:]
    return _areas(height) @ grey @ _areas(width).T


def hash_thumbnails(thumbnails: np.ndarray) -> np.ndarray:
    """Computes the hashes of grey thumbnails, float32 (n, 32, 32).

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
