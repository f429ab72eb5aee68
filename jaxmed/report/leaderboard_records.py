"""What a leaderboard shows: the runs of several sets, and published numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from jaxmed.errors import InputError
from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.tables.formatting import AT_HALF
from jaxmed.runs.record import Arm, RunRecord, read_experiment


@dataclass(frozen=True, kw_only=True)
class PublishedResults:
    """Published numbers.

    Attributes:
        methods: what they are of, such as "ResNet-18 (28)".
        numbers: metric -> set -> a number for each method, None for what is not
            published.
        source: where they are published.
        note: what has to be known of them.
    """

    methods: tuple[str, ...]
    numbers: dict[str, dict[str, list[float | None]]]
    source: str
    note: str

    def of(self, metric: str, name: str) -> list[float | None]:
        """The numbers of a set, one for each method."""
        nothing: list[float | None] = [None] * len(self.methods)
        return self.numbers.get(metric, {}).get(name, nothing)


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
        """An arm's number on the test split, None if it has no finished run.

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
        """Means over the sets, of each arm and then of each published method.

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
    published: Mapping[str, Any],
) -> Leaderboard:
    """Reads every set's finished runs.

    Args:
        folder: with a folder for each set, which is an experiment's.
        sets: all sets' names, in order.
        arms: all arms' names, in order.
        published: {"source", "note", "methods": names, metric: {set: numbers}}, where
            nan is what is not published; may be empty.

    Raises:
        InputError: there is no finished run, or a damaged one.
    """
    entries, missing = [], []
    for name in sets:
        if not any((folder / name).glob("*/seed-*/metrics.json")):
            missing.append(name)
            continue
        found, unfinished = read_experiment(folder / name, arms)
        entries.append(
            LeaderboardSet(
                name=name, comparison=Comparison(found), unfinished=unfinished
            )
        )
    if not entries:
        raise InputError(f"{folder} has no finished run in any of its sets.")
    known = {arm for entry in entries for arm in entry.arms}
    return Leaderboard(
        entries=tuple(entries),
        missing=tuple(missing),
        arms=(*(a for a in arms if a in known), *sorted(known.difference(arms))),
        published=_read_published(published),
    )


def _read_published(published: Mapping[str, Any]) -> PublishedResults:
    numbers = {
        metric: {
            name: [None if value != value else float(value) for value in row]
            for name, row in published.get(metric, {}).items()
        }
        for metric in COMPARED
    }
    return PublishedResults(
        methods=tuple(published.get("methods", ())),
        numbers=numbers,
        source=published.get("source", ""),
        note=published.get("note", ""),
    )
