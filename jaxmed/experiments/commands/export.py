"""`export`: a run's model for other runtimes, every file checked before it is kept."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.errors import unknown
from jaxmed.runs.layout import check_writable, write_json
from jaxmed.runtime.files import atomic_write

if TYPE_CHECKING:
    from jaxmed.runs.trained_model import Bundle

HELP = "write a run's model for other runtimes, each file checked"
DESCRIPTION = """\
Writes the model of a finished run, with the weights of its best epoch, and opens every
file in its own runtime: only if its probabilities are those of the run's model, within
1e-4 on some drawn images, are the files kept.

  torch        model.pth: a state dict for torchvision's model
  onnx         model.onnx: uint8 images of any size to calibrated probabilities
  stablehlo    model.stablehlo: the same for JAX, on CPUs, NVIDIA's GPUs and TPUs
  safetensors  model.safetensors: the weights by jaxmed's names

model.json beside them has what is not in the files: classes, preprocessing,
calibration, thresholds, and how each is loaded."""

FORMATS = ("torch", "onnx", "stablehlo", "safetensors")
RECORD = "model.json"


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="a run's folder, such as runs/quickstart/frozen/seed-0",
    )
    parser.add_argument(
        "--format",
        metavar="NAME,...",
        required=True,
        help=f"one or more of {', '.join(FORMATS)}",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where to (default: RUN/export)"
    )
    parser.description = DESCRIPTION


def execute(arguments: Any) -> None:
    """Carries the command out."""
    formats = parse_formats(arguments.format)
    folder = arguments.out or arguments.run / "export"
    from jaxmed.export.formats import check_installed
    from jaxmed.runs.trained_model import load_bundle

    check_installed(formats)
    bundle = load_bundle(arguments.run)
    check_writable(folder, "Give another --out.")
    for name, facts in export(bundle, formats, folder).items():
        size = (folder / name).stat().st_size / 2**20
        print(
            f"{folder / name}: {size:.1f} MiB; opened again, its probabilities differ "
            f"from the model's by {facts['largest_difference']:.1e} at most."
        )
    print(f"How to load and use it: {folder / RECORD}")


def parse_formats(text: str) -> list[str]:
    """Returns the formats that "torch,onnx" names.

    Raises:
        InputError: one is none of `FORMATS`, or there is none.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return names


def export(
    bundle: "Bundle", formats: Sequence[str], folder: Path
) -> dict[str, dict[str, Any]]:
    """Writes files and checks them; all of them and their record are kept, or none.

    Args:
        bundle: of the run; its model is set to float32.
        formats: some of `FORMATS`.
        folder: of the files; made if need be.

    Returns:
        What the record says about each file, by its name.

    Raises:
        InputError: a file does not do what the model does.
    """
    from jaxmed.export.formats import EXPORTERS, loading_code
    from jaxmed.export.metadata import describe
    from jaxmed.export.verify import Probe
    from jaxmed.models.precision import set_precision
    from jaxmed_convert.checkpoints.read import hash_file

    set_precision(bundle.model, "float32")
    record, probe = describe(bundle), Probe(bundle)
    written = _written_before(folder, record)
    new = not folder.exists()
    try:
        # All get their names at the end, or are removed.
        with ExitStack() as files:
            for name in formats:
                exporter = EXPORTERS[name]
                part = files.enter_context(atomic_write(folder / exporter.file))
                exporter.write(bundle, part, record)
                run = exporter.open(bundle, part)
                written[exporter.file] = {
                    "largest_difference": probe.compare(run, exporter.file),
                    "sha256": hash_file(part),
                    "load": loading_code(bundle, name),
                }
            part = files.enter_context(atomic_write(folder / RECORD))
            write_json(part, record | {"files": written})
    finally:
        if new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return {EXPORTERS[n].file: written[EXPORTERS[n].file] for n in formats}


def _written_before(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Returns what is known about files of the same run that are there already."""
    try:
        before = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        files = before.pop("files")
    except (OSError, ValueError, KeyError, AttributeError):
        return {}
    if before != json.loads(json.dumps(record)):
        return {}
    return {name: known for name, known in files.items() if (folder / name).is_file()}
