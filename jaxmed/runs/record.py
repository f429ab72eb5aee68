"""Records of finished runs and experiments, read from their folders."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation import Predictions, read_predictions
from jaxmed.evaluation.calibration import read_scaling
from jaxmed.evaluation.comparison.alignment import ScoredPredictions, apply_thresholds
from jaxmed.evaluation.predictions import check_fingerprint
from jaxmed.runs.layout import (
    CAM_INDEX,
    CONFIG,
    ENVIRONMENT,
    FAITHFULNESS,
    HISTORY,
    METRICS,
    PREDICTIONS,
    VALIDATION,
    arm_of,
    fold_of,
    has_metrics,
    runs_of_experiment,
    seed_of,
)
from jaxmed.runtime.files import read_json
from jaxmed.runtime.toml import read_toml

AGAIN = "Run the experiment again, or delete the folder."


@dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """One epoch: the phase's name, and every other column of history.csv by name.

    An empty cell, such as the rate of a group that another phase trains, is nan.
    """

    phase: str
    values: dict[str, float]

    def __getitem__(self, column: str) -> float:
        return self.values.get(column, math.nan)


@dataclass(frozen=True, kw_only=True)
class Cam:
    """One picture of a test image beside its map.

    Attributes:
        path: of the picture, the image in its left half and the map in its right.
        id: of the image.
        true: the true classes, in words.
        predicted: the class that is explained.
        probability: of that class.
        correct: it is a true one.
        kinds: why the image was selected.
        degenerate: the map is empty, and no evidence.
        method: how the map was made.
        gap: of integrated gradients, how far the map is from being complete, as a share
            of what it should explain; else None.
    """

    path: Path
    id: str
    true: str
    predicted: str
    probability: float
    correct: bool
    kinds: tuple[str, ...]
    degenerate: bool
    method: str
    gap: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What one run left behind: an arm trained with one seed.

    Attributes:
        folder: `OUT/<experiment>/<arm>/seed-<n>`, or with a fold in between.
        metrics: what `jaxmed.evaluate` returned.
        predictions: "val" and "test", before calibration.
        history: a row per epoch; empty if the run has no history.csv.
        environment: environment.json; empty if the run has none.
        config: the text of config.toml; empty if the run has none.
        cams: empty if no maps were drawn.
        faithfulness: cams/faithfulness.json; empty if it was not measured.
        fold: of a cross-validation, counted over its repeats; else None.
    """

    folder: Path
    arm: str
    seed: int
    metrics: dict[str, Any]
    predictions: dict[str, Predictions]
    history: tuple[HistoryRow, ...]
    environment: dict[str, Any]
    config: str
    cams: tuple[Cam, ...]
    faithfulness: dict[str, Any] = field(default_factory=dict)
    fold: int | None = None

    @property
    def task(self) -> str:
        return self.metrics["task"]

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(self.metrics["class_names"])

    @cached_property
    def scored(self) -> ScoredPredictions:
        """The test predictions with what is decided at the threshold chosen on val."""
        value = self.metrics["threshold"].get("value")
        if self.task == "binary":
            value = {self.class_names[1]: value}
        test = self.predictions["test"]
        scaling = read_scaling(self.metrics["calibration"])
        calibrated = None if scaling is None else scaling.apply(test)
        return apply_thresholds(test, value or {}, str(self.folder), calibrated)

    @cached_property
    def best_row(self) -> int | None:
        """The index of the chosen epoch in `history`, where that is known."""
        best = self.environment.get("best") or {}
        for index, row in enumerate(self.history):
            if row.phase == str(best.get("phase")) and row["epoch"] == best.get(
                "epoch"
            ):
                return index
        return None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """The finished runs of one arm, by rising seed; at least one."""

    name: str
    runs: tuple[RunRecord, ...]

    @property
    def first(self) -> RunRecord:
        """The run with the lowest seed, which stands for the arm in pictures."""
        return self.runs[0]

    @property
    def shown_seed(self) -> str:
        """Which seed `first` is, "seed 0", where the arm has several; else nothing."""
        return f"seed {self.first.seed}" if len(self.runs) > 1 else ""

    @property
    def shown_name(self) -> str:
        """The name of what is of `first` alone: "two_phase (seed 0)"."""
        return f"{self.name} ({self.shown_seed})" if self.shown_seed else self.name


def read_experiment(
    folder: Path, order: Sequence[str] | None = None
) -> tuple[tuple[Arm, ...], tuple[str, ...]]:
    """Read every finished run of an experiment.

    Args:
        folder: `OUT/<experiment>`.
        order: names of arms, the one that others are compared with first. Arms that
            it does not name follow in alphabetical order.

    Returns:
        The arms that have a finished run, and the unfinished runs ("arm/seed-1").

    Raises:
        InputError: no run is finished, one is damaged, or two runs are not about the
            same classes.
    """
    runs, unfinished = [], []
    for path in runs_of_experiment(folder):
        if has_metrics(path):
            runs.append(read_run(path))
        else:
            unfinished.append(str(path.relative_to(folder)))
    if not runs:
        raise InputError(
            f"{folder} has no finished run: expected <arm>/seed-<n>/{METRICS} in it."
        )
    for run in runs[1:]:
        if (run.task, run.class_names) != (runs[0].task, runs[0].class_names):
            raise InputError(
                f"{run.folder} and {runs[0].folder} are not about the same classes, "
                "so one report cannot hold both. Move one of them elsewhere."
            )
    names = sorted({run.arm for run in runs})
    rank = {name: index for index, name in enumerate(order or ())}
    names.sort(key=lambda name: rank.get(name, len(rank)))
    arms = []
    for name in names:
        mine = sorted((run for run in runs if run.arm == name), key=lambda r: r.seed)
        arms.append(Arm(name=name, runs=tuple(mine)))
    return tuple(arms), tuple(unfinished)


def read_run(folder: Path) -> RunRecord:
    """Read the folder of one finished run.

    Args:
        folder: `OUT/<experiment>/<arm>/seed-<n>`, or wherever that was moved. It must
            hold metrics.json and predictions.csv; the rest may be missing.

    Raises:
        InputError: a file is missing or damaged, or two files contradict each other.
    """
    folder = Path(folder)
    for name in (METRICS, PREDICTIONS):
        if not (folder / name).is_file():
            raise InputError(f"{folder} is not a finished run: it has no {name}.")
    metrics = _read_metrics(folder / METRICS)
    predictions = read_predictions(
        folder / PREDICTIONS,
        class_names=tuple(metrics["class_names"]),
        task=metrics["task"],
    )
    for split in ("val", "test"):
        expected, stored = metrics[split].get("n"), 0
        if split in predictions:
            stored = len(predictions[split].ids)
        if expected != stored:
            raise InputError(
                f"{folder} is damaged: {METRICS} is about {expected} {split} images, "
                f"{PREDICTIONS} holds {stored}. {AGAIN}"
            )
    path = str(folder / PREDICTIONS)
    check_fingerprint(predictions.values(), metrics["fingerprint"], path)
    config, environment = folder / CONFIG, folder / ENVIRONMENT
    faithfulness = folder / FAITHFULNESS
    return RunRecord(
        folder=folder,
        arm=arm_of(folder),
        fold=fold_of(folder),
        seed=_seed_of(folder),
        metrics=metrics,
        predictions=predictions,
        history=_read_history(folder / HISTORY),
        environment=read_json(environment) if environment.exists() else {},
        config=config.read_text(encoding="utf-8") if config.exists() else "",
        cams=_read_cams(folder),
        faithfulness=read_json(faithfulness) if faithfulness.exists() else {},
    )


def read_validation(folder: Path, environment: dict[str, Any]) -> RunRecord:
    """Read an external validation as the record of a run.

    Args:
        folder: `RUN/validation/<name>`, with metrics.json and predictions.csv.
        environment: environment.json of the run.

    Returns:
        A record whose "test" are the external images.

    Raises:
        InputError: a file is missing or damaged.
    """
    metrics = read_json(folder / METRICS)
    predictions = read_predictions(
        folder / PREDICTIONS,
        class_names=tuple(metrics["class_names"]),
        task=metrics["task"],
        fingerprint=metrics["fingerprint"],
    )
    return RunRecord(
        folder=folder,
        arm=folder.name,
        seed=0,
        metrics=metrics,
        predictions=predictions,
        history=(),
        environment=environment,
        config="",
        cams=_read_cams(folder),
    )


def read_validations(folder: Path) -> dict[str, dict[str, Any]]:
    """Read metrics.json of a run's external validations, by the names of the sets."""
    paths = sorted((folder / VALIDATION).glob(f"*/{METRICS}"))
    return {path.parent.name: read_json(path) for path in paths}


def _seed_of(folder: Path) -> int:
    """Return a run's seed: its folder's name says it, unless it was renamed."""
    seed = seed_of(folder)
    if seed is not None:
        return seed
    try:
        return int(read_toml(folder / CONFIG)["train"]["seeds"][0])
    except (InputError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} is not called as a run, such as seed-0, and its {CONFIG} "
            "does not say its seed. Rename it, or restore that file."
        ) from error


def _read_metrics(path: Path) -> dict[str, Any]:
    metrics = read_json(path)
    parts = {"task": str, "class_names": list, "val": dict, "test": dict}
    parts |= {"threshold": dict, "test_at_threshold": dict, "per_class": dict}
    parts |= {"calibration": dict, "fingerprint": str}
    for name, json_type in parts.items():
        if not isinstance(metrics.get(name), json_type):
            raise InputError(f"{path} is damaged: {name!r} is missing in it. {AGAIN}")
    tasks = ("binary", "multiclass", "multilabel", "ordinal")
    if metrics["task"] not in tasks:
        raise unknown(f"task in {path}:", metrics["task"], tasks)
    return metrics


def _read_history(path: Path) -> tuple[HistoryRow, ...]:
    if not path.exists():
        return ()
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for cells in csv.DictReader(file):
            phase = cells.pop("phase", None) or ""
            try:
                values = {k: float(v) if v else math.nan for k, v in cells.items()}
            except (TypeError, ValueError) as error:
                raise InputError(
                    f"{path} is damaged: row {len(rows) + 2} does not hold a number in "
                    f"every column ({error}). {AGAIN}"
                ) from error
            rows.append(HistoryRow(phase=phase, values=values))
    return tuple(rows)


def _read_cams(folder: Path) -> tuple[Cam, ...]:
    path = folder / CAM_INDEX
    if not path.exists():
        return ()
    cams = []
    for index, entry in enumerate(read_json(path, list)):
        try:
            cam = Cam(
                path=folder / entry["file"],
                id=str(entry["id"]),
                true=str(entry["true"]),
                predicted=str(entry["predicted"]),
                probability=float(entry["probability"]),
                correct=bool(entry["correct"]),
                kinds=tuple(map(str, entry["kinds"])),
                degenerate=bool(entry["degenerate"]),
                method=str(entry["method"]),
                gap=entry.get("completeness_gap"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path} is damaged: entry {index} lacks a field or holds a wrong one "
                f"({error}). {AGAIN}"
            ) from error
        if not cam.path.is_file():
            raise InputError(f"{path} names {cam.path.name}, which is missing. {AGAIN}")
        cams.append(cam)
    return tuple(cams)
