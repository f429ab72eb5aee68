"""`predict`: labels new images with a finished run."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxmed.errors import InputError
from jaxmed.runs.layout import OUT_OF_DISTRIBUTION, check_writable
from jaxmed.runtime.csv_files import FILE_NAMES, csv_writer
from jaxmed.runtime.files import atomic_write

if TYPE_CHECKING:
    from jaxmed.inference.predictor import Prediction, Predictor

STDOUT = "-"

# Takes what was predicted and the path of its overlay, "" for none.
Write = Callable[["Prediction", str], None]


@contextmanager
def open_rows(out: str, run: "Predictor", cams: bool) -> Iterator[Write]:
    """Give what writes a row; a file has its name only when all are written.

    Args:
        out: FILE.csv, FILE.jsonl or `STDOUT`, which gets CSV.
        run: whose classes are columns.
        cams: whether there is a column of overlays.
    """
    if out == STDOUT:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors=FILE_NAMES)  # pyright: ignore
        yield _csv_rows(sys.stdout, run, cams)
        sys.stdout.flush()
        return
    with (
        atomic_write(Path(out)) as part,
        part.open("w", encoding="utf-8", errors=FILE_NAMES, newline="") as file,
    ):
        json_lines = out.endswith(".jsonl")
        yield _json_lines(file) if json_lines else _csv_rows(file, run, cams)


def _csv_rows(file: TextIO, run: "Predictor", cams: bool) -> Write:
    names = run.class_names
    labels = [] if run.task == "binary" else list(names)
    write_row = csv_writer(
        file,
        [
            *("id", "decision"),
            *(f"prob_{name}" for name in names),
            *(f"above_threshold_{name}" for name in labels),
            *("ood_score", "out_of_distribution", *["cam"] * cams, "error"),
        ],
    )

    def write(prediction: "Prediction", cam: str) -> None:
        above = [prediction.above_threshold.get(name) for name in labels]
        known = prediction.ood_score is not None
        write_row(
            [
                *(prediction.id, prediction.decision),
                *(prediction.probs.get(name) for name in names),
                *("" if yes is None else int(yes) for yes in above),
                *(
                    prediction.ood_score,
                    int(prediction.out_of_distribution) if known else "",
                ),
                *([cam] * cams),
                prediction.error,
            ]
        )

    return write


def _json_lines(file: TextIO) -> Write:
    def write(prediction: "Prediction", cam: str) -> None:
        if prediction.error is not None:
            row: dict[str, Any] = {"id": prediction.id, "error": prediction.error}
        else:
            row = {
                "id": prediction.id,
                "decision": prediction.decision,
                "probs": prediction.probs,
            }
            row |= {
                "above_threshold": prediction.above_threshold,
                "ood_score": prediction.ood_score,
            }
            row["out_of_distribution"] = prediction.out_of_distribution
            row |= {"cam": cam} if cam else {}
        file.write(json.dumps(row) + "\n")

    return write


HELP = "label new images with a finished run"
DESCRIPTION = """\
Labels images with a finished run: its weights, preprocessing, test-time augmentation,
calibration and thresholds. A row is written for each image, in the order given:

  id                   the path as the user wrote it
  decision             the class: in a binary task by the stored threshold, with several
                       classes the most probable one; of several labels those at or
                       above their thresholds
  prob_*               calibrated probabilities
  above_threshold_*    1 where the probability, before calibration as the threshold was
                       chosen, is at or above it (not in a binary task, where that is
                       the decision)
  ood_score            out-of-distribution score: the share of the run's validation
                       images that are nearer to the training images, by their features
  out_of_distribution  1 where that is above 0.99
  cam                  with --cam, the overlay of the predicted class's saliency map
  error                why a file cannot be used; all else is then empty

Exit code 3 if some files cannot be used, 2 if none can."""
UNUSABLE = 3
# How many bad files the sentence at the end names.
UNUSABLE_SHOWN = 10


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "run",
        metavar="RUN",
        type=Path,
        help="folder of a finished run, such as runs/quickstart/frozen/seed-0, or of "
        "an arm, whose runs are an ensemble",
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
        help="write overlays of each predicted class's saliency map, by the run's "
        "method, to DIR (default: beside FILE, FILE_cams; without it, cams)",
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=int,
        default=64,
        help="images the network sees at once (default: 64)",
    )


def execute(arguments: Any) -> int:
    """Carry the command out; returns the exit code."""
    out: str = arguments.out
    if out != STDOUT and Path(out).suffix not in (".csv", ".jsonl"):
        raise InputError(f"--out must end in .csv or .jsonl, or be -, got {out}.")
    if arguments.batch_size < 1:
        raise InputError(
            f"--batch-size must be at least 1, got {arguments.batch_size}."
        )
    from jaxmed.data.images.user_files import find_user_files
    from jaxmed.inference.saved_model import load_model
    from jaxmed.runtime.progress import progress

    cams = None if arguments.cam is None else _cams_folder(arguments.cam, out)
    _check_places(out, cams)
    run = load_model(arguments.run)
    left_out: dict[str, str] = {}
    files = find_user_files(arguments.images, left_out)
    if left_out:
        name, reason = next(iter(left_out.items()))
        _log(f"{len(left_out):,} left out, such as {name} ({reason}).")
    if run.detector is None:
        _log(f"{arguments.run} has no {OUT_OF_DISTRIBUTION}: `ood_score` stays empty.")
    predictions = run.stream(
        files, cams=cams is not None, batch_size=arguments.batch_size
    )
    tally = Tally(total=len(files), window=run.preprocessing.window.describe())
    try:
        with (
            open_rows(out, run, cams is not None) as write,
            progress("Predicting", len(files), unit="images") as advance,
        ):
            for number, prediction in enumerate(predictions):
                cam = ""
                if cams is not None and prediction.cam is not None:
                    cam = _draw(cams / f"{number:06d}.png", prediction)
                write(prediction, cam)
                tally.count(prediction)
                advance(1)
            if tally.unusable == tally.total:
                raise InputError(f"No image can be used: {tally.name()}.")
    except BrokenPipeError:
        # As of `predict ... | head`; Python would complain once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for sentence in tally.describe():
        _log(sentence)
    return UNUSABLE if tally.unusable else 0


@dataclass(kw_only=True)
class Tally:
    """Count what is to be said at the end.

    Attributes:
        total: images, usable or not.
        window: what becomes black and white of more than 8 bits, in a phrase.
        out_of_distribution: those unlike the training images.
        few_levels: those of few gray levels.
        unusable: those that cannot be used.
        first: of these the first, no more than are shown.
    """

    total: int
    window: str
    out_of_distribution: int = 0
    few_levels: int = 0
    unusable: int = 0
    first: list["Prediction"] = field(default_factory=list)

    def count(self, prediction: "Prediction") -> None:
        """Add one."""
        self.out_of_distribution += prediction.out_of_distribution
        self.few_levels += prediction.few_levels
        if prediction.error is None:
            return
        self.unusable += 1
        if len(self.first) < UNUSABLE_SHOWN:
            self.first.append(prediction)

    def name(self) -> str:
        """Name the unusable ones."""
        shown = ", ".join(
            f"{prediction.id} ({prediction.error})" for prediction in self.first
        )
        more = self.unusable - len(self.first)
        text = shown + (f", and {more:,} more" if more else "")
        return text.encode(errors="backslashreplace").decode()

    def describe(self) -> Iterator[str]:
        """Give the sentences for what is not as it should be."""
        if self.out_of_distribution:
            yield (
                f"{self.out_of_distribution:,} of {self.total:,} images are out of "
                "distribution, farther from the training images than 99 % of "
                "validation: do not rely on their predictions."
            )
        if self.few_levels:
            yield (
                f"{self.few_levels:,} of {self.total:,} images have few gray levels "
                f"once they are decoded as in training, where black to white is "
                f"{self.window}: their values may be on another scale."
            )
        if self.unusable:
            yield (
                f"{self.unusable:,} of {self.total:,} cannot be used: {self.name()}."
            )


def _log(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _cams_folder(folder: str, out: str) -> Path:
    if folder:
        return Path(folder)
    return Path("cams") if out == STDOUT else Path(f"{out.rpartition('.')[0]}_cams")


def _check_places(out: str, cams: Path | None) -> None:
    """Refuse before anything is computed what could not be written then."""
    if out != STDOUT:
        if Path(out).is_dir():
            raise InputError(f"{out} is a folder, and --out is a file.")
        check_writable(Path(out).parent, "Give another --out.")
    if cams is not None:
        check_writable(cams, "Give another folder to --cam.")


def _draw(path: Path, prediction: "Prediction") -> str:
    from PIL import Image

    from jaxmed.explain.overlay import overlay

    assert prediction.image is not None
    assert prediction.cam is not None
    with atomic_write(path) as part:
        Image.fromarray(overlay(prediction.image, prediction.cam)).save(part)
    return str(path)
