"""Reading the files that PyTorch users keep weights in."""

import importlib.util
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError
from jaxmed_convert.checkpoints.unwrapping import unwrap
from jaxmed_convert.old_names import renamed

# How files begin: what torch.save writes, a zip archive, or before version 1.6 a pickle
# of a number of its own.
ZIP, LEGACY = b"PK", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# What is none of torch's, and what to do.
OTHERS = (
    (b"\x80", "is a pickle that torch.save did not write"),
    (b"version https://git-lfs", "is a Git LFS pointer and not the file it stands for"),
    (b"<", "is a page of HTML or XML, as a failed download leaves"),
    (b"\x93NUMPY", "is an array of NumPy"),
    (b"\x1f\x8b", "is compressed by gzip"),
)
SAVE = "Save the weights alone with torch.save(model.state_dict(), path)."
# Packages whose whole models people pickle, torchxrayvision's own files among them.
PICKLED = ("torchxrayvision", "torchvision", "timm")
# What torch says of an object that it will not build.
REFUSED = re.compile(r"GLOBAL (\S+)|but got <(?:class|function) '?([\w.]+)|"
                     r"unrecognized function (.+)")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A state dict from a file.

    Attributes:
        tensors: torch tensors or NumPy arrays, by name.
        notes: sentences about what else there is in the file, for people.
        keras: whether Keras saved it.
    """

    tensors: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    keras: bool = False


def require_torch() -> None:
    """Raises an `InputError` if torch or torchvision is not installed."""
    for package in ("torch", "torchvision"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"This needs {package}, which is not installed. "
                "Install it with: pip install 'jaxmed[torch]'"
            )


def check_file(path: Path) -> None:
    """Raises an `InputError` if there is no such file or it may not be read."""
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    if not os.access(path, os.R_OK):
        raise InputError(f"The weights file {path} may not be read by this user.")


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a state dict, out of its wrapper and without old spellings.

    What a file is, its content tells and not its name. No code that may be in it is
    run. Prefixes stay, and so do tensors of other modules: see
    `jaxmed_convert.checkpoints.find_network`.

    Args:
        path: a file that `torch.save` wrote, a safetensors file, or one of Keras'.

    Raises:
        InputError: the file is missing, truncated, holds code, or is not a checkpoint.
    """
    check_file(path)
    with path.open("rb") as file:
        start = file.read(64)
    # Only now: it brings NumPy, which `--help` needs not.
    from jaxmed_convert.checkpoints.keras_files import (
        HDF5,
        is_keras_archive,
        read_keras,
    )

    if start.startswith(HDF5) or is_keras_archive(path):
        return Checkpoint(tensors=read_keras(path), keras=True)
    if start[8:9] == b"{" or path.suffix.lower() == ".safetensors":
        content = _read_safetensors(path)
    elif start.startswith((ZIP, LEGACY)):
        content = _read_torch(path)
    else:
        raise _other(path, start)
    from jaxmed_convert.checkpoints.harmless import rebuilt

    tensors, notes = unwrap(path, rebuilt(content))
    return Checkpoint(tensors=renamed(tensors), notes=tuple(notes))


def _read_safetensors(path: Path) -> Any:
    import ml_dtypes  # noqa: F401  teaches NumPy the name "bfloat16"
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, "safetensors file", error) from error


def _read_torch(path: Path) -> Any:
    if importlib.util.find_spec("torch") is None:
        return _read_without_torch(path)
    import torch

    from jaxmed_convert.checkpoints.harmless import harmless_globals

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            torch.serialization.safe_globals(harmless_globals()),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # Altered files make torch raise nearly anything.
        raise _unreadable(path, error) from error


def _read_without_torch(path: Path) -> Any:
    from jaxmed_convert.checkpoints.plain_tensors import NotPlain, read_plain_tensors

    try:
        return read_plain_tensors(path)
    except NotPlain as error:
        raise InputError(
            f"The file {path} holds more than tensors ({error}), and torch, which may "
            "read it, is not installed. Install it with: pip install 'jaxmed[torch]'"
        ) from error
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InputError:
    """Returns the error for a file of torch's: one that is whole is not called cut."""
    refused = REFUSED.search(str(error))
    if isinstance(error, pickle.UnpicklingError) and refused:
        symbol = next(filter(None, refused.groups()))
        package = str(symbol).partition(".")[0]
        advice = SAVE
        if package in PICKLED:
            advice = (
                f"If you trust it: import torch, {package}; "
                f'model = torch.load("{path}", weights_only=False); '
                'torch.save(model.state_dict(), "weights.pth")'
            )
        return InputError(
            f"The file {path} is refused because it holds code ({symbol}) and not only "
            f"weights. {advice}"
        )
    members = _members(path)
    if members is None:
        return _damaged(path, "PyTorch checkpoint", error)
    if any(name.endswith("constants.pkl") for name in members):
        return InputError(
            f"The file {path} is a TorchScript program. Open it by torch.jit.load, and "
            f"save its weights alone with torch.save(program.state_dict(), path)."
        )
    if not any(name.endswith("data.pkl") for name in members):
        return InputError(
            f"The file {path} is a zip archive that torch.save did not write, with "
            f"{', '.join(members[:3])}. If the weights are in it, unpack it. {SAVE}"
        )
    return InputError(
        f"The file {path} is whole, and torch cannot read it as weights alone: "
        f"{_first_line(error)}. {SAVE}"
    )


def _members(path: Path) -> list[str] | None:
    """Returns the names in a zip archive, None if it is none or damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return None if archive.testzip() else archive.namelist()
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return None


def _other(path: Path, start: bytes) -> InputError:
    for begin, description in OTHERS:
        # The start of a torch file of the old format that ends within it.
        if start.startswith(begin) and not LEGACY.startswith(start):
            return InputError(
                f"The file {path} {description}. Expected a file of torch.save or of "
                f"safetensors. {SAVE}"
            )
    return _damaged(path, "PyTorch checkpoint", "it does not start like one")


def _damaged(path: Path, file_type: str, reason: object) -> InputError:
    return InputError(
        f"The file {path} is truncated, damaged or not a {file_type}: "
        f"{_first_line(reason)}. Fetch or save it again."
    )


def _first_line(reason: object) -> str:
    lines = str(reason).splitlines() or ["it ends early"]
    return lines[0].rstrip(".")[:160]
