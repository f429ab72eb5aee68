"""`report`: the page, and figures and tables for a paper, from what is stored."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmed.config.flags import split_list
from jaxmed.config.multi_dataset import BOARD
from jaxmed.errors import InputError, unknown
from jaxmed.runs.layout import CONFIG, METRICS
from jaxmed.runtime.files import check_readable
from jaxmed.runtime.toml import read_toml

HELP = "rebuild figures and report.html from stored files, or export them for a paper"
FORMATS = ("html", "pdf", "csv", "latex")
# A run's folder in that of its arm.
RUN = re.compile(r"seed-\d+")


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "folder",
        metavar="RUN_OR_EXPERIMENT_FOLDER",
        type=Path,
        help="such as runs/quickstart or runs/quickstart/frozen/seed-0",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT[,FORMAT...]",
        default="html",
        help="html (report.html, the default), pdf (every figure, to figures/), csv or "
        "latex (every table, to tables/), or several of them with commas",
    )
    parser.add_argument(
        "--reevaluate",
        action="store_true",
        help="first make the numbers of every finished run anew from its "
        "predictions.csv, by this version of jaxmed and the run's own config.toml",
    )


def execute(arguments: Any) -> None:
    """Carries the command out."""
    formats = read_formats(arguments.format)
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    check_readable(folder, 2)
    if arguments.reevaluate:
        reevaluate_all(folder)
    if (folder / CONFIG).is_file():
        folder = _experiment_of(folder)
    for_paper = [name for name in formats if name != "html"]
    if (folder / BOARD).is_file():
        _report_board(folder, for_paper)
        return
    if for_paper:
        for written in export_paper(folder, for_paper):
            print(f"Written: {written}")
    if "html" in formats:
        print(f"Report: {rebuild_report(folder)}")


def reevaluate_all(folder: Path) -> None:
    """Makes the numbers anew of the finished runs that are in a folder.

    Args:
        folder: of a run, an experiment, or a leaderboard.

    Raises:
        InputError: there is none, or see
        `jaxmed.experiments.pipeline.results.reevaluate`.
    """
    from jaxmed.experiments.pipeline.results import reevaluate

    depths = ("", "*/seed-*/", "*/*/seed-*/")
    found = [p.parent for depth in depths for p in folder.glob(f"{depth}{METRICS}")]
    if not found:
        raise InputError(f"{folder} has no finished run, with {METRICS}.")
    for one in sorted(found):
        reevaluate(one)
        print(f"Evaluated again: {one}", flush=True)


def _experiment_of(run: Path) -> Path:
    """Returns the folder of the experiment that a run is of."""
    run = run.resolve()
    if not RUN.fullmatch(run.name):
        raise InputError(
            f"{run} is a run outside of an experiment's folder, and a report is of an "
            "experiment: put it at NAME/ARM/seed-N, and give NAME. `compare` and "
            "`predict` take it as it is."
        )
    return run.parents[1]


def _report_board(folder: Path, for_paper: Sequence[str]) -> None:
    from jaxmed.experiments.pipeline.leaderboard import rebuild_leaderboard

    if for_paper:
        raise InputError(
            f"{folder} is of several sets, and --format {for_paper[0]} is for one: "
            f"give its folder in {folder}. Without --format, leaderboard.csv is "
            "written beside the page."
        )
    print(f"Leaderboard: {rebuild_leaderboard(folder)}")


def read_formats(text: str) -> list[str]:
    """Reads "pdf,csv".

    Raises:
        InputError: it names no format, or one that there is not.
    """
    names = split_list(text.lower())
    if not names:
        raise InputError(f"--format names no format; there are {', '.join(FORMATS)}.")
    for name in names:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    return names


def rebuild_report(folder: Path) -> Path:
    """Builds the report of an experiment from its run folders.

    Args:
        folder: `OUT/<experiment>`.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no finished run in it.
    """
    from jaxmed.report.pages.experiment import build_report

    tables = _configurations(folder)
    base = tables[0]
    source = f" ({base['source']})" if base.get("source") else ""
    return build_report(
        folder,
        title=base["name"],
        description=(base.get("description", "") + source).strip(),
        expected=_expected(tables),
        arms=_arms_in_order(folder),
    )


def export_paper(folder: Path, formats: Sequence[str]) -> list[Path]:
    """Writes the figures and tables of an experiment for a paper.

    Args:
        folder: `OUT/<experiment>`.
        formats: "pdf", "csv", "latex".

    Returns:
        The folders written to.

    Raises:
        InputError: there is no finished run in it.
    """
    from jaxmed.report.pages.paper import write_paper

    expected = _expected(_configurations(folder))
    return write_paper(folder, formats, expected=expected, arms=_arms_in_order(folder))


def _configurations(folder: Path) -> list[dict[str, Any]]:
    tables = [read_toml(path) for path in sorted(folder.glob(f"*/seed-*/{CONFIG}"))]
    if not tables:
        arm = any(folder.glob(f"seed-*/{CONFIG}"))
        hint = f" Did you mean {folder.resolve().parent}?" if arm else ""
        raise InputError(
            f"{folder} is no experiment: no <arm>/seed-<n>/{CONFIG} in it.{hint}"
        )
    return tables


def _expected(tables: Sequence[dict[str, Any]]) -> list[Any]:
    found = []
    for table in tables:
        # Every seed of an arm has the same.
        found += [one for one in table.get("expect", []) if one not in found]
    return found


def _arms_in_order(folder: Path) -> list[str]:
    """Returns the arms as the recipe orders them, as far as the runs know."""
    orders = [
        json.loads(path.read_text(encoding="utf-8")).get("arms", [])
        for path in sorted(folder.glob("*/seed-*/environment.json"))
    ]
    return max(orders, key=len, default=[])
