"""Fine-tuning of ImageNet-pretrained networks on medical images, in JAX.

Names and subpackages load on first use, so that importing jaxmed costs nothing; in
particular it imports neither torch nor tensorflow.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
