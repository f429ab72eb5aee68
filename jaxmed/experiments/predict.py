"""`predict`: labels new images with a finished run."""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxmed.errors import InputError
from jaxmed.files import replacing

if TYPE_CHECKING:
    from jaxmed.experiments.bundle import Bundle
    from jaxmed.experiments.loaded_run import Explained, Prediction

HELP = "label new images with a finished run"
DESCRIPTION = """\
Labels images with a finished run: its weights, preprocessing, test-time augmentation,
calibration and thresholds. A row is written for each image, in the order given:

  id        the path as it was given
  decision  the class: in a binary task by the stored threshold, with several classes
            the most probable one; of several labels those at or above their thresholds
  prob_*    calibrated probabilities
  above_*   1 where the probability, before calibration as the threshold was chosen, is
            at or above it (not in a binary task, where that is the decision)
  unlike    the share of the run's validation images that are more like the training
            images, by the distance of their features; above 0.99 flagged is 1
  cam       with --cam, the overlay of what spoke for the decision
  error     why a file cannot be used; all else is then empty

Exit code 3 if some files cannot be used, 2 if none can."""
STDOUT = "-"
UNUSABLE = 3
# How many bad files the sentence at the end names.
SHOWN = 10
# Names of files can be any bytes: they survive.
ODD = "surrogateescape"

Write = Callable[["Prediction", str], None]


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="folder of a finished run, such as runs/quickstart/frozen/seed-0",
    )
    parser.add_argument(
        "images",
        metavar="IMAGE_OR_FOLDER",
        nargs="+",
        help="files (also DICOM), folders with all below them, or patterns",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        default=STDOUT,
        help="FILE.csv, FILE.jsonl (a JSON object a line) or - (CSV to the standard "
        "output, the default)",
    )
    parser.add_argument(
        "--cam",
        metavar="DIR",
        nargs="?",
        const="",
        help="write overlays of what spoke for each decision, by the run's method, to "
        "DIR (default: beside FILE, FILE_cams; without it, cams)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=64,
        help="images the network sees at once (default: 64)",
    )


def execute(arguments: Any) -> int:
    """Carries the command out; returns the exit code."""
    out: str = arguments.out
    if out != STDOUT and Path(out).suffix not in (".csv", ".jsonl"):
        raise InputError(f"--out must end in .csv or .jsonl, or be -, got {out}.")
    if arguments.batch_size < 1:
        raise InputError(
            f"--batch-size must be at least 1, got {arguments.batch_size}."
        )
    from jaxmed.data.given import find_given
    from jaxmed.experiments.loaded_run import load_run
    from jaxmed.progress import progress

    run = load_run(arguments.run)
    given = find_given(arguments.images)
    if run.likeness is None:
        _say(
            "The run has no record of what its training images were like, as early "
            "versions did not keep one: `unlike` stays empty."
        )
    cams = None if arguments.cam is None else _cams_folder(arguments.cam, out)
    bad: list[Prediction] = []
    flagged = 0
    try:
        with (
            _opened(out, run.bundle, cams is not None) as write,
            progress("Predicting", len(given), unit="images") as advance,
        ):
            found = run.stream(given, arguments.batch_size, cams=cams is not None)
            for number, (prediction, explained) in enumerate(found):
                cam = ""
                if cams is not None and explained is not None:
                    cam = _draw(cams / f"{number:06d}.png", explained)
                write(prediction, cam)
                if prediction.error is not None:
                    bad.append(prediction)
                flagged += prediction.flagged
                advance(1)
            if len(bad) == len(given):
                raise InputError(f"No image can be used: {_name(bad)}.")
    except BrokenPipeError:
        # As of `predict ... | head`; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if flagged:
        _say(
            f"{flagged:,} of {len(given):,} images are less like the training images "
            "than 99 % of validation: do not rely on what is said of them."
        )
    if bad:
        _say(f"{len(bad):,} of {len(given):,} cannot be used: {_name(bad)}.")
    return UNUSABLE if bad else 0


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _name(bad: list["Prediction"]) -> str:
    shown = ", ".join(f"{one.id} ({one.error})" for one in bad[:SHOWN])
    more = f", and {len(bad) - SHOWN:,} more" if len(bad) > SHOWN else ""
    return (shown + more).encode(errors="backslashreplace").decode()


def _cams_folder(given: str, out: str) -> Path:
    if given:
        return Path(given)
    return Path("cams") if out == STDOUT else Path(f"{out.rpartition('.')[0]}_cams")


def _draw(path: Path, explained: "Explained") -> str:
    from PIL import Image

    from jaxmed.explain.overlay import overlay

    with replacing(path) as part:
        Image.fromarray(overlay(explained.image, explained.cam)).save(part)
    return str(path)


@contextmanager
def _opened(out: str, bundle: "Bundle", cams: bool) -> Iterator[Write]:
    """Gives what writes a row; a file has its name only when all are written."""
    if out == STDOUT:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors=ODD)  # pyright: ignore
        yield _csv_rows(sys.stdout, bundle, cams)
        sys.stdout.flush()
        return
    with (
        replacing(Path(out)) as part,
        part.open("w", encoding="utf-8", errors=ODD, newline="") as file,
    ):
        json_lines = out.endswith(".jsonl")
        yield _json_lines(file) if json_lines else _csv_rows(file, bundle, cams)


def _csv_rows(file: TextIO, bundle: "Bundle", cams: bool) -> Write:
    names = bundle.class_names
    labels = [] if bundle.task == "binary" else list(names)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(
        [
            *("id", "decision"),
            *(f"prob_{name}" for name in names),
            *(f"above_{name}" for name in labels),
            *("unlike", "flagged", *["cam"] * cams, "error"),
        ]
    )

    def write(one: "Prediction", cam: str) -> None:
        above = [one.above.get(name) for name in labels]
        known = one.unlike is not None
        writer.writerow(
            [
                *(one.id, one.decision),
                *(one.probs.get(name) for name in names),
                *("" if yes is None else int(yes) for yes in above),
                *(one.unlike, int(one.flagged) if known else ""),
                *([cam] * cams),
                one.error,
            ]
        )

    return write


def _json_lines(file: TextIO) -> Write:
    def write(one: "Prediction", cam: str) -> None:
        if one.error is not None:
            row: dict[str, Any] = {"id": one.id, "error": one.error}
        else:
            row = {"id": one.id, "decision": one.decision, "probs": one.probs}
            row |= {"above": one.above, "unlike": one.unlike}
            row |= {"flagged": one.flagged} | ({"cam": cam} if cam else {})
        file.write(json.dumps(row) + "\n")

    return write
