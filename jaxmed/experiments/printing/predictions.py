"""The rows that `predict` writes: CSV, or a JSON object a line."""

import csv
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from jaxmed.runtime.files import replacing

if TYPE_CHECKING:
    from jaxmed.inference.predictor import Prediction, Predictor

STDOUT = "-"
# Names of files can be any bytes: they survive.
ODD = "surrogateescape"

# Takes what was predicted and the path of its overlay, "" for none.
Write = Callable[["Prediction", str], None]


@contextmanager
def open_rows(out: str, run: "Predictor", cams: bool) -> Iterator[Write]:
    """Gives what writes a row; a file has its name only when all are written.

    Args:
        out: FILE.csv, FILE.jsonl or `STDOUT`, which gets CSV.
        run: whose classes are columns.
        cams: whether there is a column of overlays.
    """
    if out == STDOUT:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors=ODD)  # pyright: ignore
        yield _csv_rows(sys.stdout, run, cams)
        sys.stdout.flush()
        return
    with (
        replacing(Path(out)) as part,
        part.open("w", encoding="utf-8", errors=ODD, newline="") as file,
    ):
        json_lines = out.endswith(".jsonl")
        yield _json_lines(file) if json_lines else _csv_rows(file, run, cams)


def _csv_rows(file: TextIO, run: "Predictor", cams: bool) -> Write:
    names = run.class_names
    labels = [] if run.task == "binary" else list(names)
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
