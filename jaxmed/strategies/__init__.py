"""Fine-tuning strategies: paths of parameters, to groups, to optimizers.

Names load on first use: the table of presets needs no JAX.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
