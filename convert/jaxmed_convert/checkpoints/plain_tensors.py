"""Tensors in a file of torch.save, read where torch is not installed.

Both formats, the zip archive and the pickle that came before it, hold a pickle that
names tensors by storage, offset, shape and strides, and the bytes of the storages. No
other function or class than those of plain tensors is taken from the pickle.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

# By the names of torch's storages.
DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# The old format begins with three pickles: a number, a version and the byte order.
HEADERS = 3


class NotPlain(Exception):
    """A file holds something else than tensors; the message names it."""


@dataclass
class _Storage:
    """Numbers that tensors are views of; `array` is filled when they are read."""

    dtype: Any
    count: int
    array: np.ndarray | None = None


@dataclass
class _View:
    """A tensor that a pickle describes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self) -> np.ndarray:
        array = self.storage.array
        assert array is not None, "storages are read before tensors"
        if 0 in self.shape:
            return np.zeros(self.shape, array.dtype)
        spans = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        end = self.offset + sum(spans)
        if min(self.offset, *self.shape, *self.strides, 0) < 0 or end >= len(array):
            raise ValueError("a tensor reaches beyond its storage")
        strides = [step * array.itemsize for step in self.strides]
        view = np.lib.stride_tricks.as_strided(
            array[self.offset :], self.shape, strides, writeable=False
        )
        return view.copy()


def read_plain_tensors(path: Path) -> Any:
    """Reads what `torch.save` wrote, with NumPy arrays in place of tensors.

    Args:
        path: of either format.

    Raises:
        NotPlain: it holds other objects than tensors, containers and plain values.
        Exception: nearly any, if the file is damaged.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _read_old(file)
    with zipfile.ZipFile(path) as archive:
        (pickled,) = (n for n in archive.namelist() if n.endswith("/data.pkl"))
        folder = pickled.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            _check_order(archive.read(f"{folder}byteorder") == b"little")

        def read(key: str, storage: _Storage) -> bytes:
            del storage
            return archive.read(f"{folder}data/{key}")

        with archive.open(pickled) as file:
            content, storages = _unpickle(file)
        return _filled(content, storages, read)


def _read_old(file: IO[bytes]) -> Any:
    headers = [_Unpickler(file).load() for _ in range(HEADERS)]
    _check_order(headers[-1].get("little_endian", True))
    content, storages = _unpickle(file)
    keys = _Unpickler(file).load()
    sections = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        size = count * np.dtype(storages[str(key)].dtype).itemsize
        sections[str(key)] = file.read(size)
    return _filled(content, storages, lambda key, _: sections[key])


def _check_order(little: bool) -> None:
    if not little:
        raise NotPlain("numbers in big-endian order")


def _filled(
    content: Any,
    storages: dict[str, _Storage],
    read: Callable[[str, _Storage], bytes],
) -> Any:
    for key, storage in storages.items():
        storage.array = np.frombuffer(read(key, storage), storage.dtype)
        if len(storage.array) < storage.count:
            raise EOFError("it ends within a tensor")
    return _read_all(content)


def _read_all(value: Any) -> Any:
    if isinstance(value, _View):
        return value.read()
    if isinstance(value, dict):
        return {key: _read_all(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_read_all, value))
    return value


def _unpickle(file: IO[bytes]) -> tuple[Any, dict[str, _Storage]]:
    unpickler = _Unpickler(file)
    return unpickler.load(), unpickler.storages


class _Unpickler(pickle.Unpickler):
    """Builds views in place of tensors, and refuses all else that has a class."""

    def __init__(self, file: IO[bytes]):
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _view
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if (module, name) == ("torch", "Size"):
            return tuple
        if module == "torch" and name in DTYPES:
            return name
        raise NotPlain(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        tag, name, key, _, count, *more = pid
        if tag != "storage" or any(part is not None for part in more):
            raise NotPlain(f"a {tag} of another kind")
        storage = _Storage(DTYPES[name], count)
        return self.storages.setdefault(str(key), storage)


def _view(storage: _Storage, offset: int, shape: Any, strides: Any, *more: Any) -> Any:
    del more  # whether it wants gradients, and hooks
    return _View(storage, offset, tuple(shape), tuple(strides))


def _parameter(view: Any, *more: Any) -> Any:
    del more
    return view
