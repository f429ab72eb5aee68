"""Leaderboard page: the arms on several data sets, beside published numbers."""

from collections.abc import Sequence
from pathlib import Path

from jaxmed.config.published import PublishedResults
from jaxmed.report.arm_estimates import COMPARED
from jaxmed.report.figures.forest import Line, draw_groups
from jaxmed.report.figures.style import format_number, png
from jaxmed.report.page import EmbeddedImage, embed_figure, render_page
from jaxmed.report.tables.leaderboard import (
    Leaderboard,
    LeaderboardSet,
    arms_table,
    board_title,
    csv_text,
    metric_table,
    read_leaderboard,
    sets_table,
)
from jaxmed.report.tables.results import make_line
from jaxmed.runs.layout import LEADERBOARD, LEADERBOARD_CSV
from jaxmed.runtime.files import write_text

EXPLAINED = (
    "Measured results are those of the runs' metrics.json on the test split; the epoch "
    "was selected on validation. Thick lines and brackets are 95 % intervals over the "
    "test images, for these trained models.",
    "With several seeds, a result is the mean over seeds with the interval of that "
    "mean; thin lines and 'retrained' are 95 % intervals for retrained models, over "
    "images and seeds. The CSV lists every seed. With one seed, an arm may be better "
    "or worse because of the seed.",
    "This page tests no differences; the reports of the data sets do.",
    "AUROC and accuracy are MedMNIST's AUC and ACC. AUROC is that of the positive "
    "class in binary tasks, otherwise the one-vs-rest mean over classes or labels. "
    "Accuracy is that of the most probable class or, with several labels, of all "
    "decisions at 0.5; the reports of the data sets use the threshold chosen on "
    "validation.",
    "A mean over data sets weights them equally. It is given only for methods with a "
    "result on every data set of this page.",
)


def build_leaderboard(
    folder: Path,
    *,
    title: str,
    description: str,
    sets: Sequence[str],
    arms: Sequence[str],
    published: PublishedResults,
) -> Path:
    """Write leaderboard.html and leaderboard.csv from the sets' finished runs.

    Args:
        folder: with a folder for each set, which is an experiment's.
        title: the headline of the page.
        description: a sentence or two.
        sets, arms, published: see `read_leaderboard`.

    Returns:
        The path of the page. Each file is there complete or not at all.

    Raises:
        InputError: there is no finished run, or a damaged one.
    """
    board = read_leaderboard(folder, sets, arms, published)
    page = render_page(
        "leaderboard.html.j2",
        title=title,
        description=description,
        headlines=[_headline(board, metric) for metric in COMPARED],
        facts=_facts(board),
        pictures=[_picture(board, metric) for metric in COMPARED],
        tables=[metric_table(board, metric) for metric in COMPARED],
        arms=arms_table(board),
        sets=sets_table(board),
        reports=[entry.name for entry in board.entries],
        missing=board.missing,
        explained=EXPLAINED,
        published=board.published,
    )
    write_text(folder / LEADERBOARD_CSV, csv_text(board))
    write_text(folder / LEADERBOARD, page)
    return folder / LEADERBOARD


def _headline(board: Leaderboard, metric: str) -> str:
    methods = board.published.methods
    names = (*board.arms, *methods)
    means = dict(zip(names, board.means(metric), strict=True))
    title, first = board_title(metric), board.entries[0].name
    several = len(board.entries) > 1
    subject = (
        f"Mean test {title} over {len(board.entries)} sets"
        if several
        else f"Test {title} on {first}"
    )

    def ranked(names: Sequence[str]) -> str:
        known = [(value, name) for name in names if (value := means[name]) is not None]
        known.sort(key=lambda pair: -pair[0])
        return ", ".join(f"{name} {format_number(value)}" for value, name in known)

    measured, published = ranked(board.arms), ranked(methods)
    beside = f"; published: {published}" if published else ""
    return f"{subject}: {measured or 'no arm has a number on every set'}{beside}."


def _facts(board: Leaderboard) -> list[tuple[str, str]]:
    runs = [run for entry in board.entries for run in entry.runs]
    unfinished = sum(len(entry.unfinished) for entry in board.entries)
    versions = {str(run.environment.get("jaxmed", "not recorded")) for run in runs}
    of_sets = len(board.entries) + len(board.missing)
    return [
        ("Sets", f"{len(board.entries)} of {of_sets}"),
        ("Runs", f"{len(runs)}" + (f", {unfinished} not finished" * bool(unfinished))),
        ("Seeds", ", ".join(map(str, sorted({run.seed for run in runs})))),
        ("jaxmed", ", ".join(sorted(versions))),
    ]


def _picture(board: Leaderboard, metric: str) -> EmbeddedImage:
    """Draw every arm with its interval, set by set, above the published values."""
    groups, marks, remarks = {}, {}, {}
    for entry in board.entries:
        groups[entry.name] = [
            make_line(index, arm, entry.estimate(arm, metric))
            for index, arm in enumerate(board.arms)
        ]
        marks[entry.name] = _marks(board, entry, metric)
        images = entry.runs[0].metrics["test"]["n"]
        remarks[entry.name] = f"{images:,} test images"
    title = f"test {board_title(metric)}"
    figure = draw_groups(groups, title, remarks, marks)
    caption = "Filled: measured, with 95 % intervals (thin: retrained models)."
    if board.published.methods:
        caption += " Hollow: published."
    alt = f"{title} of every arm with intervals, set by set; a table has the numbers."
    return embed_figure(png(figure), alt, caption)


def _marks(board: Leaderboard, entry: LeaderboardSet, metric: str) -> list[Line]:
    published = board.published
    pairs = zip(published.methods, published.of(metric, entry.name), strict=True)
    return [
        Line(name=method, index=index, value=value, faint=True)
        for index, (method, value) in enumerate(pairs, len(board.arms))
    ]
