"""Run folders: their layout, reading and writing them, and the trained model in one.

Names load on first use: the layout needs no JAX, models do.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
