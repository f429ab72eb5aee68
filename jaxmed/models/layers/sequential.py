"""Layers that keep the places they have in torch's `nn.Sequential`."""

from collections.abc import Iterator, Mapping

from flax import nnx

# Fills the places between the layers: nnx.List takes a string as static, not None.
_GAP = ""


class Numbered(nnx.List):
    """Modules by number, with gaps.

    torch's `nn.Sequential` counts layers without parameters too: of a convolution, an
    activation and another convolution the names are "0" and "2". Numbered the same,
    the paths here are torch's names. It is for a family to call the modules, as each
    has its own arguments.

    Args:
        modules: by their number, at least 0. Numbers without a module are gaps.

    Examples:
        >>> rngs = nnx.Rngs(0)
        >>> layers = Numbered(
        ...     {0: nnx.Linear(2, 3, rngs=rngs), 2: nnx.Linear(3, 1, rngs=rngs)}
        ... )
        >>> [number for number, _ in layers.items()]
        [0, 2]
        >>> layers[2].out_features
        1
    """

    def __init__(self, modules: Mapping[int, nnx.Module]):
        super().__init__(modules.get(i, _GAP) for i in range(max(modules) + 1))

    def items(self) -> Iterator[tuple[int, nnx.Module]]:
        """Gives the numbers and the modules, in order, without the gaps."""
        for number, module in enumerate(self):
            if isinstance(module, nnx.Module):
                yield number, module
