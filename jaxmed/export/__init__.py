"""Export of a trained model to torch, ONNX, StableHLO and safetensors.

Names load on first use: the list of formats needs no JAX, exporting does.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
