"""Advice on which strategy to start with, and domain distance.

Names load on first use: the rules need no JAX, the distance does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
