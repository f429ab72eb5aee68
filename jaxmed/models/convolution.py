"""The convolution that networks with BatchNorm are made of."""

from typing import Any

from flax import nnx

from jaxmed.models.initializers import kaiming_normal


def convolution(
    in_channels: int,
    out_channels: int,
    size: int,
    *,
    stride: int = 1,
    groups: int = 1,
    init: Any = kaiming_normal,
    rngs: nnx.Rngs,
) -> nnx.Conv:
    """Builds a convolution without bias, which the BatchNorm behind it would undo."""
    return nnx.Conv(
        in_channels,
        out_channels,
        (size, size),
        strides=stride,
        # torch pads both sides alike; XLA's "SAME" would not when striding.
        padding=size // 2,
        feature_group_count=groups,
        use_bias=False,
        kernel_init=init,
        rngs=rngs,
    )
