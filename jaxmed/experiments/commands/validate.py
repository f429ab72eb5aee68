"""`validate`: finished runs on labeled images of another source."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jaxmed.config.flags import split_list
from jaxmed.errors import InputError
from jaxmed.runs.layout import (
    METRICS,
    PREDICTIONS,
    REPORT,
    VALIDATION,
    check_writable,
)
from jaxmed.runtime.files import atomic_folder, remove_folder, write_json

if TYPE_CHECKING:
    from jaxmed.inference.external_validation import Validation

HELP = "validate finished runs on labeled images of another source"
DESCRIPTION = """\
Measures a finished run on labeled images of another source, such as another hospital or
a later year, with the run's threshold, calibration and preprocessing as they are: every
metric with its interval, and its difference from the run's own test. Nothing is chosen
on these images; what they would change is reported apart. The results are in
RUN/validation/NAME: report.html, metrics.json, predictions.csv and cams/.

Exit code 1 if the run was trained on images or patients of the source."""
EXAMPLES = """\
  validate runs/mine/frozen/seed-0 folder:other_hospital
  validate runs/mine/frozen runs/mine/full table:2025.csv?label=finding
  validate runs/mine/frozen folder:b --map NORMAL=normal,PNEUMONIA=viral"""
TRAINED_ON = 1


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.epilog = EXAMPLES
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        type=Path,
        help="folder of a finished run, of save_model, or of an arm, whose runs are an "
        "ensemble",
    )
    parser.add_argument(
        "source", metavar="SOURCE", help="labeled images, as data.source names them"
    )
    parser.add_argument(
        "--map",
        metavar="CLASS=NAME,...",
        default="",
        help="classes of the run, and their names in the source; a class may have "
        "several names, and images of =NAME are left out (default: by name)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME,...",
        default="",
        help="train, val or test of the source (default: all its images)",
    )
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        default="",
        help="finds an image's patient in its id, as data.group_pattern",
    )
    parser.add_argument(
        "--name", default="", help="of the results' folder (default: the source's)"
    )
    parser.add_argument(
        "--allow",
        metavar="WORD,...",
        default="",
        help="go on in spite of: overlap (the run was trained on some of the images), "
        "channels (color images and a run on gray ones, or the reverse)",
    )
    parser.add_argument(
        "--draws",
        metavar="N",
        type=int,
        default=100,
        help="of images to refit threshold and calibration on (default: 100)",
    )
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="skip leaves out files that cannot be used (default: stop)",
    )


def execute(arguments: Any) -> int:
    """Carry the command out; returns the exit code."""
    mapping = read_mapping(arguments.map)
    if arguments.name and not re.fullmatch(r"[\w.-]*\w[\w.-]*", arguments.name):
        raise InputError(
            f"--name {arguments.name!r} must be of letters, digits, '.', '-' and '_', "
            "for a folder."
        )
    for run in arguments.runs:
        check_writable(run, "Give the folder of a run.")
    # Only now: they bring JAX.
    from jaxmed.inference.external_validation import TrainedOnImages, validate

    done = []
    for run in arguments.runs:
        try:
            validation = validate(
                run,
                arguments.source,
                mapping=mapping,
                splits=split_list(arguments.split),
                group_pattern=arguments.group_pattern,
                allow=split_list(arguments.allow),
                name=arguments.name,
                on_error=arguments.on_error,
                draws=arguments.draws,
            )
        except TrainedOnImages as error:
            print(f"Error: {run}: {error}", file=sys.stderr)
            return TRAINED_ON
        folder = run / VALIDATION / validation.name
        write_validation(folder, validation)
        done.append((str(run), validation))
        print(f"Written: {folder / REPORT}", flush=True)
    _show(done)
    return 0


def read_mapping(text: str) -> dict[str, str]:
    """Read "NORMAL=normal,PNEUMONIA=viral": by class of the source that of the run.

    Raises:
        InputError: a part without "=", or a name that is given twice.
    """
    mapping: dict[str, str] = {}
    for part in split_list(text):
        target, equals, name = part.partition("=")
        target, name = unquote(target.strip()), unquote(name.strip())
        if not equals or not name:
            raise InputError(
                f"--map takes CLASS=NAME with a class of the run and its name in the "
                f"source, separated by commas; got {part!r}."
            )
        if mapping.get(name, target) != target:
            raise InputError(
                f"--map says twice what {name} is: {mapping[name]} and {target}."
            )
        mapping[name] = target
    return mapping


def write_validation(folder: Path, validation: "Validation") -> None:
    """Write what a validation found, all of it or nothing, in place of an older one."""
    from jaxmed.config.schema import ExplainConfig
    from jaxmed.evaluation.predictions_csv import write_predictions
    from jaxmed.experiments.pipeline.explanations import write_cams
    from jaxmed.report.pages.external_validation import build_validation_page

    predictor = validation.predictor
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as unfinished:
        unfinished.mkdir()
        write_json(unfinished / METRICS, validation.metrics)
        write_predictions(unfinished / PREDICTIONS, [validation.predictions])
        write_cams(
            unfinished,
            predictor.model,
            validation.images,
            validation.predictions,
            preprocessing=predictor.preprocessing,
            explain=ExplainConfig(method=predictor.method, layer=predictor.layer or ""),
        )
        build_validation_page(
            unfinished, predictor.metrics, dict(predictor.environment)
        )
        if folder.exists():
            remove_folder(folder)


def _show(done: Sequence[tuple[str, "Validation"]]) -> None:
    """Print a table of the runs, and sentences on the set."""
    from jaxmed.experiments.printing.tables import print_table
    from jaxmed.report.tables.external_validation import runs_table

    print()
    print_table(runs_table([(name, run.metrics) for name, run in done]))
    notes = [note for _, run in done for note in run.metrics["validation"]["notes"]]
    for note in dict.fromkeys(notes):
        print(f"{note[0].upper()}{note[1:]}.")
