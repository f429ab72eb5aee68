"""Reading the files that PyTorch users keep weights in."""

import hashlib
import importlib.util
import os
import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError
from jaxmed_convert.spellings import renamed

SUFFIXES = (".pth", ".pt", ".safetensors")
# What training scripts wrap a state dict in, and put in front of its names.
WRAPPERS = ("state_dict", "model_state_dict", "model")
PREFIXES = ("module.", "_orig_mod.", "model.")
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
    """

    tensors: Mapping[str, Any]
    sha256: str


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
    """Reads a state dict, out of its wrapper, without prefix and old spellings.

    A `.pth` or `.pt` file is read without running code that may be in it.

    Args:
        path: a file that `torch.save` wrote, or a safetensors file.

    Raises:
        InputError: the file is missing, truncated, holds code, or is not a checkpoint.
    """
    check_file(path)
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    tensors = renamed(_without_prefix(_unwrap(path, read(path))))
    return Checkpoint(tensors=tensors, sha256=hash_file(path))


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
        with warnings.catch_warnings(action="ignore"):
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


def _unwrap(path: Path, content: Any) -> Mapping[str, Any]:
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    strange = f"got {type(content).__name__}"
    if isinstance(content, Mapping) and content:
        others = [n for n, value in content.items() if not hasattr(value, "shape")]
        if not others:
            return content
        strange = f"got {type(content[others[0]]).__name__} under {others[0]!r}"
    raise InputError(
        f"The file {path} does not hold a state dict: expected tensors by name, "
        f"{strange}."
    )


def _without_prefix(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    for prefix in PREFIXES:
        if all(str(name).startswith(prefix) for name in tensors):
            bare = {name.removeprefix(prefix): t for name, t in tensors.items()}
            return _without_prefix(bare)
    return tensors
