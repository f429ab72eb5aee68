"""A model as a definition and two flat dicts of arrays, and back.

jaxmed has one name for a parameter: its path in the module tree, joined with
dots, such as "backbone.layer4.0.conv1.kernel" or "head.out.bias". Below "backbone."
the names are torchvision's. Strategies, optimizer groups, checkpoints, conversion
tables and error messages all use it, and every pytree of weights is a flat dict
keyed by it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

Arrays = dict[str, jax.Array]


class Parts(NamedTuple):
    """What `split` gives and `merge` takes.

    Attributes:
        definition: the static structure of the model; hashable.
        params: what an optimizer may change, by path.
        stats: BatchNorm's running means and variances, by path.
    """

    definition: Any
    params: Arrays
    stats: Arrays


def dotted(path: Sequence[Any]) -> str:
    """Format a path of the module tree: ("layer4", 0, "bn1") is "layer4.0.bn1"."""
    return ".".join(map(str, path))


def split(model: nnx.Module) -> Parts:
    """Takes a model apart. The arrays are shared with the model, not copied."""
    definition, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Parts(definition, _flatten(params), _flatten(stats))


def merge(definition: Any, params: Arrays, stats: Arrays) -> Any:
    """Builds a model from its parts; usable inside jitted and differentiated code."""
    leaves = [(_undotted(path), leaf) for path, leaf in (params | stats).items()]
    # The copy gives variables of the current trace: without it BatchNorm's update
    # inside jax.grad raises flax's TraceContextError.
    return nnx.merge(definition, nnx.from_flat_state(leaves), copy=True)


def load(model: nnx.Module, arrays: Mapping[str, ArrayLike]) -> None:
    """Set the model's parameters and statistics in place.

    Args:
        model: changed in place; an abstract one, of shapes alone, is filled.
        arrays: parameters and statistics by path: exactly the model's paths, each
            with the model's shape. What is a shape alone is only checked.

    Raises:
        ValueError: a path is missing or unknown, or a shape differs.
    """
    leaves = {dotted(path): leaf for path, leaf in nnx.to_flat_state(nnx.state(model))}
    wrong = sorted(leaves.keys() ^ arrays.keys()) + [
        path
        for path, leaf in leaves.items()
        if path in arrays and leaf.shape != jnp.shape(arrays[path])
    ]
    if wrong:
        raise ValueError(f"These arrays do not fit the model: {', '.join(wrong)}.")
    for path, leaf in leaves.items():
        if not isinstance(arrays[path], jax.ShapeDtypeStruct):
            leaf.set_value(_on_device(arrays[path]))


def update(model: nnx.Module, arrays: Mapping[str, ArrayLike]) -> None:
    """Set some of a model's parameters and statistics in place; the others stay.

    Args:
        model: changed in place; an abstract one is only checked, and stays abstract.
        arrays: by path, each with the model's shape.

    Raises:
        ValueError: a path is unknown, or a shape differs.
    """
    parts = split(model)
    current: dict[str, Any] = parts.params | parts.stats
    given: dict[str, Any] = {
        path: jax.ShapeDtypeStruct(jnp.shape(array), current[path].dtype)
        if isinstance(current.get(path), jax.ShapeDtypeStruct)
        else array
        for path, array in arrays.items()
    }
    load(model, current | given)


def _on_device(array: ArrayLike) -> jax.Array:
    if isinstance(array, jax.Array):
        return array
    # jnp.asarray would compile a copy for every new shape. The copy here is needed
    # because on a CPU the jax array is a view of the NumPy array.
    return jax.device_put(np.array(array))


def stats_of(model: nnx.Module) -> Arrays:
    """Returns BatchNorm's running statistics, by path."""
    return _flatten(nnx.state(model, nnx.BatchStat))


def _flatten(state) -> Arrays:
    # Of an abstract model they are shapes.
    return {dotted(path): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def _undotted(path: str) -> tuple[str | int, ...]:
    return tuple(int(p) if p.isdigit() else p for p in path.split("."))
