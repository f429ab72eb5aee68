"""Labeled images: sources, splits, preprocessing and augmentation.

Names load on first use: data needs NumPy only, preprocessing and augmentation need JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
