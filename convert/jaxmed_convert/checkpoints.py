"""Reading the files that PyTorch users keep weights in."""

import argparse
import hashlib
import importlib.util
import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from jaxmed.errors import InputError
from jaxmed_convert.spellings import renamed

SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
# What training scripts keep a state dict under, the likeliest first.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
# How averages of weights over the steps of a training are called.
AVERAGED = re.compile(r"(^|[._])(ema|avg|averaged?|swa)([._]|$)")
# The first bytes of what torch.save writes: a zip archive, or before 1.6 a pickle.
STARTS = (b"PK", b"\x80\x02")

# Everything that torch.load was seen to raise on truncated and altered files.
_DAMAGE = (RuntimeError, OSError, EOFError, LookupError, ValueError, struct.error)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state dict from a file.

    Attributes:
        tensors: torch tensors or NumPy arrays, by name.
        sha256: of the file, in hexadecimal.
        notes: sentences about what else there is in the file, for people.
    """

    tensors: Mapping[str, Any]
    sha256: str
    notes: tuple[str, ...] = ()


def require_torch() -> None:
    """Raises an `InputError` if torch or torchvision is not installed."""
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"This needs {package}, which is not installed. "
                "Install it with: pip install 'jaxmed[torch]'"
            )


def hash_file(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_file(path: Path) -> None:
    """Raises an `InputError` if the file cannot be read or has another suffix."""
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"The weights file {path} may not be read by this user.")
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"The weights file {path} must end in one of {', '.join(SUFFIXES)}."
        )


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a state dict, out of its wrapper and without old spellings.

    All but a safetensors file is read without running code that may be in it. Prefixes
    stay, and so do tensors of other modules: see `jaxmed_convert.selection`.

    Args:
        path: a file that `torch.save` wrote, or a safetensors file.

    Raises:
        InputError: the file is missing, truncated, holds code, or is not a checkpoint.
    """
    check_file(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    tensors, notes = _unwrap(path, read(path))
    return Checkpoint(
        tensors=renamed(tensors), sha256=hash_file(path), notes=tuple(notes)
    )


def _read_safetensors(path: Path) -> Any:
    import ml_dtypes  # noqa: F401  teaches NumPy the name "bfloat16"
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, "safetensors file", error) from error


def _read_torch(path: Path) -> Any:
    require_torch()
    import torch

    with path.open("rb") as file:
        start = file.read(2)
    if start not in STARTS:
        raise _damaged(path, "PyTorch checkpoint", "it does not start like one")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(_harmless()),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code is None:
            raise _damaged(path, "PyTorch checkpoint", "it cannot be read") from error
        raise InputError(
            f"The file {path} is refused because it holds code ({code[1]}) and not "
            "only weights. Save the weights alone with "
            "torch.save(model.state_dict(), path)."
        ) from error
    except _DAMAGE as error:
        raise _damaged(path, "PyTorch checkpoint", error) from error


def _damaged(path: Path, kind: str, reason: object) -> InputError:
    lines = str(reason).splitlines() or ["it ends early"]
    return InputError(
        f"The file {path} is truncated, damaged or not a {kind}: "
        f"{lines[0].rstrip('.')[:160]}. Fetch or save it again."
    )


def _harmless() -> list[Any]:
    """Returns what training scripts save beside weights and cannot do any harm.

    They are plain values: command lines, paths and NumPy's numbers. Each comes with
    the name it has in a file.
    """
    import numpy as np

    scalar, numbers = np.float64(0).__reduce__()[0], (np.float64, np.float32, np.int64)
    return [
        (argparse.Namespace, "argparse.Namespace"),
        (PurePosixPath, "pathlib.PosixPath"),
        (PureWindowsPath, "pathlib.WindowsPath"),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        (np.dtype, "numpy.dtype"),
        *(type(np.dtype(number)) for number in numbers),
    ]


def _unwrap(path: Path, content: Any) -> tuple[Mapping[str, Any], list[str]]:
    notes: list[str] = []
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        notes += [
            f"The file also holds an averaged copy ({key}), which is ignored."
            for key, value in content.items()
            if AVERAGED.search(str(key)) and _has_tensors(value)
        ]
        content = content[inner[0]]
    strange = f"got {type(content).__name__}"
    if isinstance(content, Mapping) and content:
        others = [n for n, value in content.items() if not hasattr(value, "shape")]
        if not others:
            return {str(name): tensor for name, tensor in content.items()}, notes
        strange = f"got {type(content[others[0]]).__name__} under {others[0]!r}"
    raise InputError(
        f"The file {path} does not hold a state dict: expected tensors by name, "
        f"{strange}."
    )


def _has_tensors(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else ()
    return any(hasattr(item, "shape") or _has_tensors(item) for item in inside)
