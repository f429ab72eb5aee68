"""Export a trained model to files, each opened again and compared before it is kept."""

import importlib.util
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError, unknown
from jaxmed.export.formats import EXPORTERS
from jaxmed.export.metadata import RECORD, describe
from jaxmed.export.verify import Probe
from jaxmed.models.precision import set_precision
from jaxmed.runs.trained_model import TrainedModel
from jaxmed.runtime.files import atomic_folder, atomic_write, write_json


def export_model(
    trained: TrainedModel, formats: Sequence[str], folder: str | Path
) -> dict[str, dict[str, Any]]:
    """Write files and check them; all of them and model.json are kept, or none.

    Args:
        trained: of `jaxmed.load_model` or `jaxmed.make_predictor`; its model is set to
            float32.
        formats: some of "torch", "onnx", "stablehlo", "safetensors" and "hub".
        folder: of the files; made if need be.

    Returns:
        What model.json says about each file, by its name: "largest_difference" of a
        probability, "sha256" (of a folder's weights), and "load", lines of Python.

    Raises:
        InputError: an unknown format, or one that does not hold the networks of an
            ensemble; a package that it needs is missing; or a file's probabilities
            differ from the model's by more than 1e-4.
    """
    from jaxmed.runtime.files import hash_file

    check_installed(formats)
    _check_single(trained, formats)
    folder = Path(folder)
    for network in trained.networks:
        set_precision(network.model, "float32")
    record, probe = describe(trained), Probe(trained)
    files = _exported_before(folder, record)
    new = not folder.exists()
    try:
        # All get their names at the end, or are removed.
        with ExitStack() as unfinished:
            for name in formats:
                exporter = EXPORTERS[name]
                path = folder / exporter.file
                part = unfinished.enter_context(
                    atomic_folder(path, replace=True)
                    if exporter.weights
                    else atomic_write(path)
                )
                exporter.write(trained, part, record)
                run = exporter.open(trained, part)
                files[exporter.file] = {
                    "largest_difference": probe.compare(run, exporter.file),
                    "sha256": hash_file(part / exporter.weights),
                    "load": exporter.code(trained, exporter.file),
                }
            part = unfinished.enter_context(atomic_write(folder / RECORD))
            write_json(part, record | {"files": files})
    finally:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return {EXPORTERS[n].file: files[EXPORTERS[n].file] for n in formats}


def check_installed(formats: Sequence[str]) -> None:
    """Check that formats exist, and that the packages they need are installed.

    Raises:
        InputError: an unknown format, or a package is missing.
    """
    for name in formats:
        if name not in EXPORTERS:
            raise unknown("format", name, EXPORTERS)
        for package in EXPORTERS[name].packages:
            if importlib.util.find_spec(package) is None:
                raise InputError(
                    f"The format {name} needs {package}, which is not installed. "
                    f"Install it with: pip install 'jaxmed[{EXPORTERS[name].extra}]'"
                )


def _check_single(trained: TrainedModel, formats: Sequence[str]) -> None:
    """Refuse a format of one network for an ensemble."""
    for name in formats:
        if trained.members and not EXPORTERS[name].ensembles:
            able = " or ".join(
                n for n, exporter in EXPORTERS.items() if exporter.ensembles
            )
            raise InputError(
                f"A file of the format {name} holds one network, and {trained.folder} "
                f"has {len(trained.members)}. Take {able}, or export each run."
            )


def _exported_before(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Return the records of files of the same model that are there already."""
    try:
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = before.pop("files")
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
    if before != json.loads(json.dumps(record)):
        return {}
    return {name: facts for name, facts in files.items() if (folder / name).exists()}
