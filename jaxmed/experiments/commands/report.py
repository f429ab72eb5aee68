"""`report`: the page, and figures and tables for a paper, from what is stored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmed.config.flags import split_list
from jaxmed.errors import InputError, unknown
from jaxmed.experiments.pipeline.reporting import export_paper, rebuild_report
from jaxmed.runs.layout import (
    BOARD,
    CONFIG,
    METRICS,
    fold_of,
    has_metrics,
    runs_of_experiment,
    seed_of,
)
from jaxmed.runtime.files import check_readable

HELP = "rebuild figures and report.html from stored files, or export them for a paper"
REPORT_FORMATS = ("html", "pdf", "csv", "latex")


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
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
    """Carry the command out."""
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
    """Make the numbers anew of the finished runs that are in a folder.

    Args:
        folder: of a run, an experiment, or a leaderboard.

    Raises:
        InputError: there is none, or see
        `jaxmed.experiments.pipeline.evaluate_run.reevaluate`.
    """
    from jaxmed.experiments.pipeline.evaluate_run import reevaluate

    experiments = [folder, *sorted(folder.glob("*"))]
    runs = [folder, *(run for e in experiments for run in runs_of_experiment(e))]
    finished = [run for run in runs if has_metrics(run)]
    if not finished:
        raise InputError(f"{folder} has no finished run, with {METRICS}.")
    for run in finished:
        reevaluate(run)
        print(f"Evaluated again: {run}", flush=True)


def _experiment_of(run: Path) -> Path:
    """Return the folder of the experiment that a run is of."""
    run = run.resolve()
    if seed_of(run) is None:
        raise InputError(
            f"{run} is a run outside of an experiment's folder, and a report is of an "
            "experiment: put it at NAME/ARM/seed-N, and give NAME. `compare` and "
            "`predict` take it as it is."
        )
    return run.parents[1 if fold_of(run) is None else 2]


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
    """Read "pdf,csv".

    Raises:
        InputError: it names no format, or one that there is not.
    """
    names = split_list(text.lower())
    if not names:
        raise InputError(
            f"--format names no format; there are {', '.join(REPORT_FORMATS)}."
        )
    for name in names:
        if name not in REPORT_FORMATS:
            raise unknown("format", name, REPORT_FORMATS)
    return names
