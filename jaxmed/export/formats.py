"""Export formats: how a file is written, and opened again in its own runtime."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxmed.export import hub_folder
from jaxmed.export.metadata import metadata_of

if TYPE_CHECKING:
    from jaxmed.export.verify import Run
    from jaxmed.runs.trained_model import TrainedModel
    from jaxmed_convert.export.torch_program import Program


class Exporter(NamedTuple):
    """A format.

    Attributes:
        file: the name of its file, or folder.
        packages: what it needs beside what jaxmed has.
        extra: of pip, that brings them.
        write: writes a file, given what is known about the model.
        open: opens it again: images to probabilities after and before calibration.
        code: lines of Python that open it, run beside it, for model.json.
        ensembles: whether it holds several networks, averaged.
        weights: of a folder, the name of the file with the weights; else empty.
    """

    file: str
    packages: tuple[str, ...]
    extra: str
    write: Callable[["TrainedModel", Path, dict[str, Any]], None]
    open: Callable[["TrainedModel", Path], "Run"]
    code: Callable[["TrainedModel", str], list[str]]
    ensembles: bool = False
    weights: str = ""


def _write_torch(trained: "TrainedModel", path: Path, record: dict[str, Any]) -> None:
    from jaxmed_convert.export.torch_models import write_torch

    del record  # A state dict has no place for it.
    write_torch(trained.model, path, trained.preprocessing.image_size)


def _open_torch(trained: "TrainedModel", path: Path) -> "Run":
    from jaxmed_convert.export.torch_models import read_torch

    size = trained.preprocessing.image_size
    return _torch_program(trained, [read_torch(trained.model, path, size)]).predict


def _write_onnx(trained: "TrainedModel", path: Path, record: dict[str, Any]) -> None:
    from jaxmed_convert.export.onnx import write_onnx
    from jaxmed_convert.export.torch_models import build_torch

    size = trained.preprocessing.image_size
    networks = [build_torch(network.model, size) for network in trained.networks]
    program = _torch_program(trained, networks)
    channels = trained.preprocessing.channels
    write_onnx(program, path, channels=channels, metadata=metadata_of(record))


def _open_onnx(trained: "TrainedModel", path: Path) -> "Run":
    from jaxmed_convert.export.onnx import open_onnx

    del trained
    return open_onnx(path)


def _torch_program(trained: "TrainedModel", networks: list[Any]) -> "Program":
    from jaxmed_convert.export.torch_program import Program
    from jaxmed_convert.weights.image_scales import torch_scale

    return Program(
        networks,
        scale=torch_scale(trained.model),
        preprocessing=trained.preprocessing,
        views=trained.views,
        task=trained.task,
        scaling=trained.scaling,
    )


def _write_stablehlo(
    trained: "TrainedModel", path: Path, record: dict[str, Any]
) -> None:
    from jaxmed.export.stablehlo import write_stablehlo

    del record  # Nor has this.
    write_stablehlo(trained, path)


def _open_stablehlo(trained: "TrainedModel", path: Path) -> "Run":
    from jaxmed.export.stablehlo import open_stablehlo

    del trained
    return open_stablehlo(path)


def _write_safetensors(
    trained: "TrainedModel", path: Path, record: dict[str, Any]
) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from jaxmed.models.parameters import split

    _, params, stats = split(trained.model)
    arrays = {path: np.asarray(array) for path, array in (params | stats).items()}
    save_file(arrays, path, metadata_of(record))


def _open_safetensors(trained: "TrainedModel", path: Path) -> "Run":
    from safetensors import safe_open

    from jaxmed.export.verify import predict_images
    from jaxmed.models.parameters import load
    from jaxmed.models.registry import create_model

    with safe_open(path, "numpy") as file:
        model = create_model(**json.loads(file.metadata()["model"]))
        load(model, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return partial(predict_images, replace(trained, model=model))


def _torch_code(trained: "TrainedModel", file: str) -> list[str]:
    from jaxmed_convert.export.torch_models import loading_code

    return loading_code(trained.model, file, trained.preprocessing.image_size)


def _onnx_code(_trained: "TrainedModel", file: str) -> list[str]:
    return [
        "import onnxruntime",
        f'session = onnxruntime.InferenceSession("{file}")',
        "probabilities, scores = session.run(",
        '    ["probabilities", "scores"], {"images": images}',
        ")",
    ]


def _stablehlo_code(_trained: "TrainedModel", file: str) -> list[str]:
    return [
        "from pathlib import Path",
        "from jax import export",
        f'program = export.deserialize(bytearray(Path("{file}").read_bytes()))',
        "outputs = program.call(images)",
        'probabilities, scores = outputs["probabilities"], outputs["scores"]',
    ]


def _safetensors_code(_trained: "TrainedModel", file: str) -> list[str]:
    return [
        "import json, jaxmed",
        "from pathlib import Path",
        "from jaxmed.models.parameters import load",
        "from safetensors.numpy import load_file",
        'record = json.loads(Path("model.json").read_text(encoding="utf-8"))',
        'model = jaxmed.create_model(**record["model"])',
        f'load(model, load_file("{file}"))',
    ]


_TORCH = ("torch", "torchvision")
EXPORTERS = {
    "torch": Exporter(
        file="model.pth",
        packages=_TORCH,
        extra="torch",
        write=_write_torch,
        open=_open_torch,
        code=_torch_code,
    ),
    "onnx": Exporter(
        file="model.onnx",
        packages=(*_TORCH, "onnx", "onnxscript", "onnxruntime"),
        extra="export",
        write=_write_onnx,
        open=_open_onnx,
        code=_onnx_code,
        ensembles=True,
    ),
    "stablehlo": Exporter(
        file="model.stablehlo",
        packages=(),
        extra="",
        write=_write_stablehlo,
        open=_open_stablehlo,
        code=_stablehlo_code,
        ensembles=True,
    ),
    "safetensors": Exporter(
        file="model.safetensors",
        packages=(),
        extra="",
        write=_write_safetensors,
        open=_open_safetensors,
        code=_safetensors_code,
    ),
    "hub": Exporter(
        file="hub",
        packages=(),
        extra="",
        write=hub_folder.write_hub,
        open=hub_folder.open_hub,
        code=hub_folder.hub_code,
        weights=hub_folder.WEIGHTS,
    ),
}
