"""The formats of `export`: how a file is written, and opened again in its runtime."""

import importlib.util
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.errors import InputError
from jaxmed.experiments.record import metadata_of

if TYPE_CHECKING:
    from jaxmed.experiments.bundle import Bundle
    from jaxmed.experiments.probe import Run

# What each format needs beside what jaxmed has, and the extra that brings it.
NEEDS = {
    "torch": (("torch", "torchvision"), "torch"),
    "onnx": (("torch", "torchvision", "onnx", "onnxscript", "onnxruntime"), "export"),
    "stablehlo": (("flatbuffers",), "export"),
    "safetensors": ((), ""),
}


def check_installed(formats: Sequence[str]) -> None:
    """Checks that there is what formats need.

    Raises:
        InputError: a package is missing.
    """
    for name in formats:
        packages, extra = NEEDS[name]
        for package in packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"The format {name} needs {package}, which is not installed. "
                    f"Install it with: pip install 'jaxmed[{extra}]'"
                )


def _write_torch(bundle: "Bundle", path: Path, record: dict[str, Any]) -> None:
    from jaxmed_convert.torch_models import loading_code, torch_scale, write_torch

    scale = torch_scale(bundle.model)
    record["torch"] = {
        "code": loading_code(bundle.model, "model.pth"),
        "mean": list(scale.mean),
        "std": list(scale.std),
    }
    write_torch(bundle.model, path)


def _open_torch(bundle: "Bundle", path: Path) -> "Run":
    import torch

    from jaxmed_convert.torch_models import read_torch

    program = _torch_program(bundle, read_torch(bundle.model, path))
    raise NotImplementedError
