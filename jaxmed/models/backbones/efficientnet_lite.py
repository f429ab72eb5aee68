"""EfficientNet-Lite, as in the package efficientnet-lite-pytorch.

Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow Blog 2020,
and the code named there. An `EfficientNet` for small devices: no squeeze and
excitation, ReLU6 for SiLU, and stem, head and the number of blocks in the first and
last row not scaled. As its weights come from TensorFlow, convolutions are padded as
there, BatchNorm's epsilon is 1e-3 and its momentum 0.01. Module names are those of
torchvision's EfficientNet.
"""

from typing import Any

from flax import nnx

from jaxmed.models.backbones.efficientnet import (
    EfficientNet,
    LayerOptions,
    scaled_rows,
)

_LAYERS = LayerOptions(
    {"epsilon": 1e-3, "momentum": 0.01}, activation=nnx.relu6, same=True, squeeze=False
)


def _lite(width: float, depth: float) -> dict[str, Any]:
    first, *middle, last = scaled_rows(width, depth)
    rows = (first._replace(depth=1), *middle, last._replace(depth=1))
    return {"rows": rows, "stem": 32, "last": 1280, "layers": _LAYERS}


# The factors of width and depth.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": _lite(1.0, 1.0),
    "efficientnet_lite1": _lite(1.0, 1.1),
    "efficientnet_lite2": _lite(1.1, 1.2),
    "efficientnet_lite3": _lite(1.2, 1.4),
    "efficientnet_lite4": _lite(1.4, 1.8),
}


def build(name: str, *, in_channels: int, rngs: nnx.Rngs) -> EfficientNet:
    """Builds one of `CONFIGURATIONS` by name."""
    return EfficientNet(**CONFIGURATIONS[name], in_channels=in_channels, rngs=rngs)
