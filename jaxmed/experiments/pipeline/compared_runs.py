"""Runs to compare: found in folders, read and named."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.alignment import ScoredPredictions
from jaxmed.runs.layout import (
    CONFIG,
    METRICS,
    fold_of,
    has_metrics,
    runs_of_arm,
    runs_of_experiment,
    seed_of,
)
from jaxmed.runs.record import RunRecord, read_run


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """A run, and what it decided on its test images.

    Attributes:
        folder: as the user gave it.
        record: what lies in it.
        scored: its test predictions and decisions.
    """

    folder: Path
    record: RunRecord
    scored: ScoredPredictions


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What is compared.

    Attributes:
        arms: runs by the arm's name; a run on its own is an arm of one.
        notes: what has to be known of these runs, in sentences.
    """

    arms: dict[str, tuple[ComparedRun, ...]]
    notes: tuple[str, ...]


def read_compared(folders: Sequence[Path]) -> Compared:
    """Read runs, arms and experiments.

    Args:
        folders: of runs (ARM/seed-N), arms (the folder of several of them) and
            experiments (that of arms).

    Raises:
        InputError: fewer than two runs or arms; a folder that is not there, or is
            none of these; a run that is not finished, damaged, edited or given twice.
    """
    by_arm: dict[Path, list[ComparedRun]] = {}
    unfinished: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"There is no folder {folder}.")
        for arm, runs in _find(folder, unfinished).items():
            by_arm.setdefault(arm, []).extend(runs)
    runs = [run for arm in by_arm.values() for run in arm]
    _check_once(runs)
    if len(by_arm) < 2:
        only = f", got one: {folders[0]}" if by_arm else ""
        raise InputError(
            f"A comparison needs at least two runs or arms{only}. To compare the seeds "
            "of an arm with each other, name their folders."
        )
    names = _name([(arm, by_arm[arm]) for arm in by_arm])
    arms = {
        name: tuple(runs) for name, runs in zip(names, by_arm.values(), strict=True)
    }
    notes = [*_notes(arms)]
    if unfinished:
        left_out = ", ".join(map(str, unfinished))
        notes.append(f"Not finished, and left out: {left_out}.")
    return Compared(arms=arms, notes=tuple(notes))


def _find(folder: Path, unfinished: list[Path]) -> dict[Path, list[ComparedRun]]:
    """Return the runs in a folder by that of their arm; a run's is its own."""
    resolved = folder.resolve()
    if seed_of(resolved) is not None or (folder / CONFIG).is_file():
        return {resolved: [_read(folder)]}
    arms: dict[Path, list[Path]] = {}
    paths = runs_of_arm(folder) or runs_of_experiment(folder)
    if any(fold_of(path) is not None for path in paths):
        raise InputError(
            f"{folder} is of a cross-validation, whose folds have other test images "
            "each. Its report.html compares the arms; to compare runs of one fold, "
            "name their folders."
        )
    for path in paths:
        arms.setdefault(path.parent.resolve(), []).append(path)
    if not arms:
        raise InputError(
            f"{folder} holds no run: expected the folder of a run (ARM/seed-0), of an "
            "arm or of an experiment."
        )
    read: dict[Path, list[ComparedRun]] = {}
    for arm, paths in arms.items():
        finished = [path for path in paths if has_metrics(path)]
        unfinished += [path for path in paths if path not in finished]
        if finished:
            read[arm] = [_read(path) for path in finished]
    if not read:
        raise InputError(
            f"{folder} has no finished run: expected {METRICS} in a seed's folder."
        )
    return _in_order(read)


def _in_order(arms: dict[Path, list[ComparedRun]]) -> dict[Path, list[ComparedRun]]:
    """Order an experiment's arms as the recipe does, as far as the runs know."""
    orders = [
        run.record.environment.get("arms", []) for runs in arms.values() for run in runs
    ]
    rank = {name: i for i, name in enumerate(max(orders, key=len))}
    return dict(
        sorted(arms.items(), key=lambda item: rank.get(item[0].name, len(rank)))
    )


def _read(folder: Path) -> ComparedRun:
    record = read_run(folder.resolve())
    # Errors name the folder as it was given.
    scored = replace(record.scored, name=str(folder))
    return ComparedRun(folder=folder, record=record, scored=scored)


def _check_once(runs: Sequence[ComparedRun]) -> None:
    seen = set()
    for run in runs:
        if run.record.folder in seen:
            raise InputError(
                f"{run.folder} is given twice; a run cannot be compared with itself."
            )
        seen.add(run.record.folder)


def _name(arms: Sequence[tuple[Path, list[ComparedRun]]]) -> list[str]:
    """Name each by the end of its path, as long as it takes to tell them apart."""
    paths = [path for path, _ in arms]
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = []
        for path in paths:
            # "seed-0" alone says too little.
            parts = length if seed_of(path) is None else length + 1
            names.append("/".join(path.parts[-parts:]))
        if len(set(names)) == len(names):
            return names
    raise AssertionError(paths)


def _notes(arms: dict[str, tuple[ComparedRun, ...]]) -> Iterable[str]:
    runs = [run for arm in arms.values() for run in arm]
    for run in runs:
        if without := _without_threshold(run.record):
            yield (
                f"{run.folder} chose no threshold for {', '.join(without)}; 0.5 is "
                "taken."
            )
    data = {
        (run.record.environment.get("data") or {}).get("fingerprint") for run in runs
    }
    if len(data - {None}) > 1:
        yield (
            "The runs' data sets are not the same (their fingerprints in "
            "environment.json differ): the test images have the same ids and labels, "
            "but their pixels, or the training images, are others."
        )
    views = {run.record.metrics.get("tta", "none") for run in runs}
    if len(views) > 1:
        yield (
            "The runs do not look at an image in the same views "
            f"(evaluate.tta: {', '.join(sorted(views))})."
        )


def _without_threshold(record: RunRecord) -> list[str]:
    value = record.metrics["threshold"].get("value")
    if record.task == "binary":
        return [] if value is not None else [record.class_names[1]]
    if record.task == "multilabel":
        return [name for name in record.class_names if (value or {}).get(name) is None]
    return []
