"""Saliency maps, pictures of them, and measures of their faithfulness.

Names load on first use: the table of methods needs no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
