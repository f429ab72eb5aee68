"""Leaderboards: the runs of several data sets, published results, tables and CSV."""

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jaxmed.config.published import PublishedResults
from jaxmed.errors import InputError
from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.tables.formatting import (
    AT_HALF,
    INTERVALS,
    Cell,
    Table,
    count,
    estimate,
    metric_title,
    number,
    word,
)
from jaxmed.runs.layout import has_metrics, runs_of_experiment
from jaxmed.runs.record import Arm, RunRecord, read_experiment
from jaxmed.runtime.csv_files import format_csv


@dataclass(frozen=True, kw_only=True)
class LeaderboardSet:
    """A set with a finished run.

    Attributes:
        name: of the set, and of its folder.
        comparison: of its arms.
        unfinished: its runs that were begun and are not finished, "arm/seed-1".
    """

    name: str
    comparison: Comparison
    unfinished: tuple[str, ...]

    @property
    def arms(self) -> dict[str, Arm]:
        return {arm.name: arm for arm in self.comparison.arms}

    @property
    def runs(self) -> list[RunRecord]:
        return [run for arm in self.comparison.arms for run in arm.runs]

    def estimate(self, arm: str, metric: str) -> dict[str, Any]:
        """Estimate an arm's metric on the test split; no value without a finished run.

        Accuracy is of the most probable class, as published ones are, and not at the
        threshold chosen on val.
        """
        if arm not in self.arms:
            return {"value": None, "reason": "no finished run"}
        if metric == "accuracy" and self.comparison.has_thresholds:
            metric += AT_HALF
        return self.comparison.estimate(self.arms[arm], "test", metric)


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """All there is to show.

    Attributes:
        entries: the sets with a finished run, in order.
        missing: the other sets.
        arms: the names of all arms, in order.
        published: what they are compared with.
    """

    entries: tuple[LeaderboardSet, ...]
    missing: tuple[str, ...]
    arms: tuple[str, ...]
    published: PublishedResults

    def means(self, metric: str) -> list[float | None]:
        """Compute means over the sets, of each arm and then of each published method.

        None for what lacks a number on one of them.
        """
        rows = [
            [self._value(entry, arm, metric) for arm in self.arms]
            + self.published.of(metric, entry.name)
            for entry in self.entries
        ]
        columns = zip(*rows, strict=True)
        return [None if None in column else fmean(column) for column in columns]

    def _value(self, entry: LeaderboardSet, arm: str, metric: str) -> float | None:
        return entry.estimate(arm, metric)["value"]


def read_leaderboard(
    folder: Path,
    sets: Sequence[str],
    arms: Sequence[str],
    published: PublishedResults,
) -> Leaderboard:
    """Read every set's finished runs.

    Args:
        folder: with a folder for each set, which is an experiment's.
        sets: all sets' names, in order.
        arms: all arms' names, in order.
        published: numbers to compare with.

    Raises:
        InputError: there is no finished run, or a damaged one.
    """
    entries, missing = [], []
    for name in sets:
        if not any(map(has_metrics, runs_of_experiment(folder / name))):
            missing.append(name)
            continue
        results, unfinished = read_experiment(folder / name, arms)
        entries.append(
            LeaderboardSet(
                name=name, comparison=Comparison(results), unfinished=unfinished
            )
        )
    if not entries:
        raise InputError(f"{folder} has no finished run in any of its sets.")
    known = {arm for entry in entries for arm in entry.arms}
    return Leaderboard(
        entries=tuple(entries),
        missing=tuple(missing),
        arms=(*(a for a in arms if a in known), *sorted(known.difference(arms))),
        published=published,
    )


def board_title(metric: str) -> str:
    """Return a metric's title; accuracy has another rule than in the sets' reports."""
    title = metric_title(metric)
    return f"{title} (most probable class)" if metric == "accuracy" else title


def metric_table(board: Leaderboard, metric: str) -> Table:
    """Tabulate a metric by set: arms, then published methods; and means over sets."""
    rows = []
    for entry in board.entries:
        measured = (estimate(entry.estimate(arm, metric)) for arm in board.arms)
        published = map(_plain, board.published.of(metric, entry.name))
        rows.append((word(entry.name), *measured, *published))
    if len(rows) > 1:
        means = map(_plain, board.means(metric))
        rows.append((word(f"mean over {len(rows)} sets"), *means))
    several = any(entry.comparison.several_seeds for entry in board.entries)
    return Table(
        caption=f"Test {board_title(metric)}",
        head=("set", *board.arms, *board.published.methods),
        rows=tuple(rows),
        note=INTERVALS if several else "",
    )


def _plain(value: float | None) -> Cell:
    return Cell(text="") if value is None else number(value)


def sets_table(board: Leaderboard) -> Table:
    """Tabulate the sets: task, images, and finished runs."""
    rows = []
    for entry in board.entries:
        run = entry.runs[0]
        data = run.environment.get("data", {})
        sizes = data.get("sizes", {})
        rows.append(
            (
                word(entry.name),
                word(data.get("source", "not recorded")),
                word(run.task),
                count(len(run.class_names)),
                *(count(sizes.get(split)) for split in ("train", "val", "test")),
                count(len(entry.runs)),
                word(", ".join(entry.unfinished)),
            )
        )
    return Table(
        caption="Images and runs",
        head=(
            *("set", "source", "task", "classes", "train", "val", "test"),
            *("runs", "not finished"),
        ),
        rows=tuple(rows),
    )


def arms_table(board: Leaderboard) -> Table:
    """Tabulate the arms: training settings, and total time on all sets."""
    rows = []
    for name in board.arms:
        arms = [e.arms[name] for e in board.entries if name in e.arms]
        runs = [run for arm in arms for run in arm.runs]
        seconds = [run.environment.get("seconds") or 0.0 for run in runs]
        rows.append(
            (
                word(name),
                *(word(_each(runs, read)) for read in TRAINED.values()),
                *(Cell(text=_each(runs, read)) for read in COUNTED.values()),
                count(len(runs)),
                number(sum(seconds) / 60, digits=0),
            )
        )
    return Table(
        caption="How the arms were trained",
        head=("arm", *TRAINED, *COUNTED, "runs", "minutes"),
        rows=tuple(rows),
        note="Pixels: the side of the square that the network saw. Minutes: training "
        "and validation of all runs together; they depend on the machine and on what "
        "else it does.",
    )


def _setting(table: str, key: str) -> Callable[[RunRecord], Any]:
    def read(run: RunRecord) -> Any:
        return tomllib.loads(run.config).get(table, {}).get(key)

    return read


TRAINED: dict[str, Callable[[RunRecord], Any]] = {
    "strategy": _setting("train", "strategy"),
    "network": _setting("model", "backbone"),
    "starting weights": lambda run: run.environment.get("weights", {}).get("name"),
}
COUNTED: dict[str, Callable[[RunRecord], Any]] = {
    "pixels": _setting("data", "image_size"),
    "epochs": lambda run: len(run.history) or None,
}


def _each(runs: list[RunRecord], read: Callable[[RunRecord], Any]) -> str:
    """Join the distinct values of all runs."""
    results = dict.fromkeys(read(run) for run in runs)
    return ", ".join("–" if value is None else str(value) for value in results)


def csv_text(board: Leaderboard) -> str:
    """Write CSV: a row per run, per mean over seeds, and per published method."""
    rows = [row for entry in board.entries for row in _rows(board, entry)]
    return format_csv(list(rows[0]), rows)


def _rows(board: Leaderboard, entry: LeaderboardSet) -> Iterator[dict[str, Any]]:
    first = entry.runs[0]
    of_set = {
        "set": entry.name,
        "task": first.task,
        "test_images": first.metrics["test"]["n"],
    }

    def row(method: str, seed: object, results: Mapping[str, Any], source: str):
        numbers = {}
        for metric, result in results.items():
            numbers[metric] = result.get("value")
            again = result.get("another_training") or {}
            for end in ("ci_low", "ci_high"):
                numbers[f"{metric}_{end}"] = result.get(end)
                numbers[f"{metric}_retrained_{end}"] = again.get(end)
        method_of = {"method": method, "seed": seed}
        return of_set | method_of | numbers | {"source": source}

    for name, arm in entry.arms.items():
        for run in arm.runs:
            results = {
                metric: run.metrics["test"].get(metric, {}) for metric in COMPARED
            }
            yield row(name, run.seed, results, "measured")
        if len(arm.runs) > 1:
            results = {metric: entry.estimate(name, metric) for metric in COMPARED}
            yield row(name, "mean", results, "measured")
    published = board.published
    for index, method in enumerate(published.methods):
        results = {m: {"value": published.of(m, entry.name)[index]} for m in COMPARED}
        yield row(method, "", results, published.source)
