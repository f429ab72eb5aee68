"""`export`: a run's model for other runtimes, every file checked before it is kept."""

from pathlib import Path
from typing import Any

from jaxmed.config.flags import split_list
from jaxmed.errors import InputError
from jaxmed.export import hub_folder
from jaxmed.export.formats import EXPORTERS
from jaxmed.export.metadata import RECORD
from jaxmed.runs.layout import check_writable

HELP = "write a run's model for other runtimes, each file checked"
DESCRIPTION = """\
Writes the model of a finished run, with the weights of its best epoch, and opens every
file in its own runtime: only if its probabilities are those of the run's model, within
1e-4 on some drawn images, are the files kept.

  torch        model.pth: a state dict for torchvision's model
  onnx         model.onnx: uint8 images of any size to calibrated probabilities
  stablehlo    model.stablehlo: the same for JAX, on CPUs, NVIDIA's GPUs and TPUs
  safetensors  model.safetensors: the weights by jaxmed's names
  hub          hub: a folder for the Hugging Face Hub, config.json, model.safetensors
               and README.md, the model card; for timm where it has the network

model.json beside them has what is not in the files: classes, preprocessing,
calibration, thresholds, and how each is loaded."""


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="folder of a run, such as runs/quickstart/frozen/seed-0, of save_model, "
        "or of an arm, whose runs are an ensemble (onnx, stablehlo)",
    )
    parser.add_argument(
        "--format",
        metavar="NAME,...",
        required=True,
        help=f"one or more of {', '.join(EXPORTERS)}",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="where to (default: RUN/export)"
    )
    parser.add_argument(
        "--push",
        metavar="OWNER/NAME",
        help="upload the folder hub to the Hugging Face Hub, private if it is new",
    )
    parser.description = DESCRIPTION


def execute(arguments: Any) -> None:
    """Carry the command out."""
    formats = list(dict.fromkeys(split_list(arguments.format))) or [""]
    folder = arguments.out or arguments.run / "export"
    # Only now: they bring JAX.
    from jaxmed.export.export_model import check_installed, export_model
    from jaxmed.runs.ensemble import read_model

    check_installed(formats)
    if arguments.push is not None:
        if "hub" not in formats:
            raise InputError("--push is for the format hub: give --format hub too.")
        hub_folder.check_push(arguments.push)
    trained = read_model(arguments.run)
    check_writable(folder, "Give another --out.")
    for name, facts in export_model(trained, formats, folder).items():
        files = [folder / name, *(folder / name).glob("*")]
        size = sum(f.stat().st_size for f in files if f.is_file()) / 2**20
        print(
            f"{folder / name}: {size:.1f} MiB; opened again, its probabilities differ "
            f"from the model's by {facts['largest_difference']:.1e} at most."
        )
    print(f"How to load and use it: {folder / RECORD}")
    if arguments.push is not None:
        address = hub_folder.push(folder / EXPORTERS["hub"].file, arguments.push)
        print(f"Uploaded to {address}")
