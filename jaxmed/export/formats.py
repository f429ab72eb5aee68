"""The formats of `export`: how a file is written, and opened again in its runtime."""

import importlib.util
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmed.errors import InputError
from jaxmed.export.metadata import metadata_of

if TYPE_CHECKING:
    from jaxmed.export.verify import Run
    from jaxmed.runs.trained_model import Bundle
    from jaxmed_convert.export.torch_program import Program


class Exporter(NamedTuple):
    """A format.

    Attributes:
        file: the name of its file.
        packages: what it needs beside what jaxmed has.
        extra: of pip, that brings them.
        write: writes a file, given what is known about the model.
        open: opens it again: images to probabilities after and before calibration.
    """

    file: str
    packages: tuple[str, ...]
    extra: str
    write: Callable[["Bundle", Path, dict[str, Any]], None]
    open: Callable[["Bundle", Path], "Run"]


def _write_torch(bundle: "Bundle", path: Path, record: dict[str, Any]) -> None:
    from jaxmed_convert.export.torch_models import write_torch

    del record  # A state dict has no place for it.
    write_torch(bundle.model, path)


def _open_torch(bundle: "Bundle", path: Path) -> "Run":
    from jaxmed_convert.export.torch_models import read_torch

    return _torch_program(bundle, read_torch(bundle.model, path)).predict


def _write_onnx(bundle: "Bundle", path: Path, record: dict[str, Any]) -> None:
    from jaxmed_convert.export.onnx import write_onnx
    from jaxmed_convert.export.torch_models import build_torch

    program = _torch_program(bundle, build_torch(bundle.model))
    channels = bundle.preprocessing.channels
    write_onnx(program, path, channels=channels, metadata=metadata_of(record))


def _open_onnx(bundle: "Bundle", path: Path) -> "Run":
    from jaxmed_convert.export.onnx import open_onnx

    del bundle
    return open_onnx(path)


def _torch_program(bundle: "Bundle", network: Any) -> "Program":
    from jaxmed_convert.export.torch_models import torch_scale
    from jaxmed_convert.export.torch_program import Program

    return Program(
        network,
        scale=torch_scale(bundle.model),
        preprocessing=bundle.preprocessing,
        views=bundle.views,
        task=bundle.task,
        scaling=bundle.scaling,
    )


def _write_stablehlo(bundle: "Bundle", path: Path, record: dict[str, Any]) -> None:
    from jaxmed.export.stablehlo import write_stablehlo

    del record  # Nor has this.
    write_stablehlo(bundle, path)


def _open_stablehlo(bundle: "Bundle", path: Path) -> "Run":
    from jaxmed.export.stablehlo import open_stablehlo

    del bundle
    return open_stablehlo(path)


def _write_safetensors(bundle: "Bundle", path: Path, record: dict[str, Any]) -> None:
    from safetensors.numpy import save_file

    from jaxmed.models.parameters import split

    _, params, stats = split(bundle.model)
    arrays = {path: np.asarray(array) for path, array in (params | stats).items()}
    save_file(arrays, path, metadata_of(record))


def _open_safetensors(bundle: "Bundle", path: Path) -> "Run":
    from safetensors import safe_open

    from jaxmed.export.verify import predict_images
    from jaxmed.models.parameters import load
    from jaxmed.models.registry import create_model

    with safe_open(path, "numpy") as file:
        model = create_model(**json.loads(file.metadata()["model"]))
        load(model, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return partial(predict_images, replace(bundle, model=model))


_TORCH = ("torch", "torchvision")
EXPORTERS = {
    "torch": Exporter("model.pth", _TORCH, "torch", _write_torch, _open_torch),
    "onnx": Exporter(
        "model.onnx",
        (*_TORCH, "onnx", "onnxscript", "onnxruntime"),
        "export",
        _write_onnx,
        _open_onnx,
    ),
    "stablehlo": Exporter("model.stablehlo", (), "", _write_stablehlo, _open_stablehlo),
    "safetensors": Exporter(
        "model.safetensors", (), "", _write_safetensors, _open_safetensors
    ),
}


def check_installed(formats: Sequence[str]) -> None:
    """Checks that there is what formats need.

    Raises:
        InputError: a package is missing.
    """
    for name in formats:
        for package in EXPORTERS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"The format {name} needs {package}, which is not installed. "
                    f"Install it with: pip install 'jaxmed[{EXPORTERS[name].extra}]'"
                )


def loading_code(bundle: "Bundle", name: str) -> list[str]:
    """Returns lines of Python that open the file of a format, beside which they run."""
    file = EXPORTERS[name].file
    if name == "torch":
        from jaxmed_convert.export.torch_models import loading_code as torch_code

        return torch_code(bundle.model, file)
    if name == "onnx":
        return [
            "import onnxruntime",
            f'session = onnxruntime.InferenceSession("{file}")',
            "probabilities, scores = session.run(",
            '    ["probabilities", "scores"], {"images": images}',
            ")",
        ]
    if name == "stablehlo":
        return [
            "from pathlib import Path",
            "from jax import export",
            f'program = export.deserialize(bytearray(Path("{file}").read_bytes()))',
            "outputs = program.call(images)",
            'probabilities, scores = outputs["probabilities"], outputs["scores"]',
        ]
    return [
        "import json, jaxmed",
        "from pathlib import Path",
        "from jaxmed.models.parameters import load",
        "from safetensors.numpy import load_file",
        'record = json.loads(Path("model.json").read_text(encoding="utf-8"))',
        'model = jaxmed.create_model(**record["model"])',
        f'load(model, load_file("{file}"))',
    ]
