"""Values that training scripts save beside weights, read without running any code.

`torch.load(weights_only=True)` builds tensors, dicts, lists and plain values, and
refuses every other class. These are those that do no harm, by the names they have in a
file. NumPy's arrays and numbers of all types, and containers, are not rebuilt by their
own code but by the functions here, which copy bytes and trust nothing.
"""

import argparse
import datetime
import types
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np


class StoredType:
    """A NumPy dtype as a pickle describes it.

    Args:
        code: NumPy's short name of the type, such as "i4".
        *flags: of alignment and copying, without meaning here.
    """

    def __init__(self, code: str, *flags: Any):
        del flags
        self.code, self.order = str(code), "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        # (version, byte order, ...); the rest describes records, which are not read.
        self.order = "=" if state[1] == "|" else str(state[1])

    def read(self, content: Any) -> np.ndarray:
        """Returns the numbers that bytes hold, (n,)."""
        if isinstance(content, str):  # of Python 2
            content = content.encode("latin1")
        dtype = np.dtype(f"{self.order}{self.code}")
        return np.frombuffer(bytes(content), dtype).copy()


class StoredArray:
    """A NumPy array as a pickle describes it.

    Attributes:
        value: the array; a list of what is in it if those are not numbers or texts.
    """

    value: Any = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, in_columns, content = state
        if isinstance(content, list):
            self.value = content
            return
        order = "F" if in_columns else "C"
        self.value = dtype.read(content).reshape(shape, order=order)


def _array(*described: Any) -> StoredArray:
    # Its type, shape and kind follow, in the state.
    del described
    return StoredArray()


def _number(dtype: StoredType, content: Any = b"") -> Any:
    return dtype.read(content)[0]


def _dict(*described: Any) -> dict[Any, Any]:
    # What it holds follows, item by item.
    del described
    return {}


def _list(items: Any = (), *limit: Any) -> list[Any]:
    del limit
    return list(items)


def _type(*described: Any) -> None:
    # What a defaultdict would have made.
    del described


def harmless_globals() -> list[Any]:
    """Returns what may be in a file, each with its name there, for `safe_globals`."""
    numpy = [f"numpy{private}core.multiarray." for private in (".", "._")]
    plain = ("list", "dict", "int", "float", "str", "bool", "tuple", "bytes")
    paths = [f"pathlib{local}.{p}" for local in ("", "._local") for p in ("", "Pure")]
    return [
        (StoredType, "numpy.dtype"),
        (StoredArray, "numpy.ndarray"),
        *((_number, f"{module}scalar") for module in numpy),
        *((_array, f"{module}_reconstruct") for module in numpy),
        (_dict, "collections.defaultdict"),
        (_list, "collections.deque"),
        (frozenset, "builtins.frozenset"),
        *((_type, f"builtins.{name}") for name in plain),
        (argparse.Namespace, "argparse.Namespace"),
        (types.SimpleNamespace, "types.SimpleNamespace"),
        *((PurePosixPath, f"{path}PosixPath") for path in paths),
        *((PureWindowsPath, f"{path}WindowsPath") for path in paths),
        (datetime.datetime, "datetime.datetime"),
        (datetime.date, "datetime.date"),
        (datetime.timedelta, "datetime.timedelta"),
    ]


def rebuilt(value: Any) -> Any:
    """Returns a value with arrays in place of `StoredArray`, in dicts too."""
    if isinstance(value, StoredArray):
        return value.value
    if isinstance(value, dict):
        return {name: rebuilt(inner) for name, inner in value.items()}
    return value
