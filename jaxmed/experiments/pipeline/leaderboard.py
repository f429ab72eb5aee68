"""All cells of a recipe of several sets: each set with every arm and seed."""

from collections.abc import Mapping
from pathlib import Path

from jaxmed.config.multi_dataset import Board
from jaxmed.config.published import read_published_results
from jaxmed.config.recipes import Recipe
from jaxmed.config.schema import DataConfig
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.experiment import (
    check_settings,
    check_together,
    train_recipe,
    write_report,
)
from jaxmed.experiments.pipeline.load_data import Datasets
from jaxmed.runs.layout import (
    BOARD,
    METRICS,
    REPORT,
    experiment_folder,
    has_metrics,
    run_folder,
    run_name,
    runs_of_experiment,
)
from jaxmed.runs.work import work_left
from jaxmed.runtime import distributed
from jaxmed.runtime.files import write_text
from jaxmed.runtime.toml import format_toml, read_toml

# Of a cell, "SET/ARM/seed-N", or of a set's report, "SET".
Failures = dict[str, InputError]


def run_board(board: Board, out: Path) -> Failures:
    """Make the runs of every set that are not finished, and go on where one fails.

    One set's images are in memory at a time. What settings can have wrong is found for
    all sets before the first is trained.

    Args:
        board: what its recipes need has run.
        out: the folder of all experiments.

    Returns:
        What failed, and why.

    Raises:
        InputError: settings, or what lies in the folders, do not fit.
    """
    with distributed.raise_on_all():
        if any(recipe.base.data.cross_validation for recipe in board.recipes.values()):
            raise InputError(
                f"{board.name} is a recipe of several sets, each with its own test "
                "split, and data.cross_validation is for one. Leave it out, or write a "
                "recipe of one set."
            )
        check_settings(list(board.recipes.values()), out)
    distributed.run_on_process_zero(
        lambda: _write_board(experiment_folder(out, board.name), board)
    )
    failures: Failures = {}
    for name, recipe in board.recipes.items():
        of_set = _run_set(recipe, out)
        failures |= {f"{name}{cell}": error for cell, error in of_set.items()}
    return failures


def _write_board(folder: Path, board: Board) -> None:
    """Write the names and published numbers that the page needs beside the runs."""
    base = board.base
    table = {
        "name": board.name,
        "description": base.base.description,
        "source": base.base.source,
        "sets": list(board.sets),
        "arms": list(base.order),
    }
    if published := read_toml(board.base.path).get("published"):
        table["published"] = published
    write_text(folder / BOARD, format_toml(table))


def _run_set(recipe: Recipe, out: Path) -> Failures:
    failures: Failures = {}
    datasets = Datasets()
    broken: dict[DataConfig, InputError] = {}
    for arm, seed in recipe.runs:
        cell = recipe.only(arm, seed)
        try:
            folder = run_folder(out, recipe, arm, seed)
            if work_left(folder, recipe.table(arm, seed)) == "images":
                _load(cell.base.data, datasets, broken)
            check_together([cell], out, datasets)
            train_recipe(cell, out, datasets)
        except InputError as error:
            failures[f"/{run_name(arm, seed)}"] = error
            print(f"Failed: {recipe.name}/{run_name(arm, seed)}: {error}", flush=True)
    try:
        distributed.run_on_process_zero(lambda: _report(recipe, out, datasets))
    except InputError as error:
        failures[""] = error
    return failures


def _report(recipe: Recipe, out: Path, datasets: Datasets) -> None:
    """Write a set's report, unless it is younger than every finished run."""
    folder = experiment_folder(out, recipe.name)
    finished = [
        (run / METRICS).stat().st_mtime
        for run in runs_of_experiment(folder)
        if has_metrics(run)
    ]
    page = folder / REPORT
    if finished and (not page.is_file() or page.stat().st_mtime < max(finished)):
        write_report(recipe, out, datasets)


def _load(
    config: DataConfig, datasets: Datasets, broken: dict[DataConfig, InputError]
) -> None:
    """Load images, and tries no second time to load those that cannot be."""
    if config not in datasets and config not in broken:
        try:
            with distributed.raise_on_all():
                datasets.add(config)
        except InputError as error:
            broken[config] = error
    if config in broken:
        raise broken[config]


def describe_failures(failures: Mapping[str, InputError]) -> list[str]:
    """Return a line for each reason, with the cells that it stopped."""
    by_reason: dict[str, list[str]] = {}
    for cell, error in failures.items():
        by_reason.setdefault(str(error), []).append(cell)
    return [f"{', '.join(cells)}: {reason}" for reason, cells in by_reason.items()]


def rebuild_leaderboard(folder: Path) -> Path:
    """Build the page and the CSV of a leaderboard from its finished runs.

    Args:
        folder: `OUT/<experiment>`, with a folder for each set.

    Returns:
        The path of leaderboard.html; leaderboard.csv is beside it.

    Raises:
        InputError: no run is finished, or one is damaged.
    """
    from jaxmed.report.pages.leaderboard import build_leaderboard

    table = read_toml(folder / BOARD)
    source = f" ({table['source']})" if table["source"] else ""
    return build_leaderboard(
        folder,
        title=table["name"],
        description=(table["description"] + source).strip(),
        sets=table["sets"],
        arms=table["arms"],
        published=read_published_results(
            table.get("published"), table["sets"], str(folder / BOARD)
        ),
    )
