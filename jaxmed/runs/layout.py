"""Names and places of the files of runs, experiments and leaderboards."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxmed.config.recipes import Recipe, Table
from jaxmed.errors import InputError
from jaxmed.runtime.csv_files import write_csv
from jaxmed.runtime.files import write_text
from jaxmed.runtime.toml import format_toml

# Of a run, OUT/<experiment>/<arm>/seed-<n>, in cross-validation
# OUT/<experiment>/<arm>/fold-<k>/seed-<n>.
CONFIG = "config.toml"
ENVIRONMENT = "environment.json"
SPLIT = "split.csv"
SKIPPED = "skipped.csv"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
METRICS = "metrics.json"
CHECKPOINTS = "checkpoints"
OUT_OF_DISTRIBUTION = "out_of_distribution.npz"
CAMS = "cams"
CAM_INDEX = f"{CAMS}/cams.json"
FAITHFULNESS = f"{CAMS}/faithfulness.json"
AUGMENTED = "augmented.png"
MODEL_CARD = "MODEL_CARD.md"
# Of a run or an arm: a folder for each external set, with metrics.json,
# predictions.csv, cams/ and report.html.
VALIDATION = "validation"
# A run is finished when all of these are there. Its model can be used with fewer: see
# `jaxmed.runs.trained_model`.
FILES = (CONFIG, ENVIRONMENT, HISTORY, PREDICTIONS, CAM_INDEX, METRICS)
# Of an experiment, OUT/<experiment>.
CROSS_VALIDATION = "cross_validation.json"
REPORT = "report.html"
SAMPLES = "samples.png"
# Of a leaderboard, OUT/<leaderboard>, which has an experiment for each of its sets.
BOARD = "leaderboard.toml"
LEADERBOARD = "leaderboard.html"
LEADERBOARD_CSV = "leaderboard.csv"

# A run's folder may be put aside under another name, such as "seed-0-old".
_SEED = re.compile(r"seed-(\d+)")
_FOLD = re.compile(r"fold-(\d+)")
# What a run's history has in every phase stands last.
_LAST_COLUMNS = ("seconds", "images_per_second")


def experiment_folder(out: Path, name: str) -> Path:
    """Return the folder of an experiment."""
    return out / name


def run_folder(out: Path, recipe: Recipe, arm: str, seed: int) -> Path:
    """Return the folder of one run."""
    fold = recipe.arms[arm].data.fold_number
    return experiment_folder(out, recipe.name) / run_name(arm, seed, fold)


def run_name(arm: str, seed: int, fold: int | None = None) -> str:
    """Return the path of a run's folder below its experiment's."""
    return f"{arm}/seed-{seed}" if fold is None else f"{arm}/fold-{fold}/seed-{seed}"


def fold_of(folder: Path) -> int | None:
    """Return the fold of a run's folder; None unless it is of a cross-validation."""
    match = _FOLD.fullmatch(folder.absolute().parent.name)
    return int(match[1]) if match else None


def arm_of(folder: Path) -> str:
    """Return the name of the arm that a run's folder is of."""
    above = folder.absolute().parent
    return (above if fold_of(folder) is None else above.parent).name


def seed_of(folder: Path) -> int | None:
    """Return the seed in the name of a run's folder; None if it has another name."""
    match = _SEED.fullmatch(folder.name)
    return int(match[1]) if match else None


def runs_of_arm(folder: Path) -> list[Path]:
    """Return the run folders of an arm, finished or not, by rising fold and seed."""
    runs = []
    for pattern in ("seed-*", "fold-*/seed-*"):
        for path in folder.glob(pattern):
            seed, fold = seed_of(path), fold_of(path)
            if seed is not None and (fold is not None) == pattern.startswith("fold"):
                runs.append((-1 if fold is None else fold, seed, path))
    return [path for *_, path in sorted(runs) if path.is_dir()]


def runs_of_experiment(folder: Path) -> list[Path]:
    """Return the run folders of an experiment, by arm and rising seed."""
    arms = sorted(path for path in folder.glob("*") if path.is_dir())
    return [run for arm in arms for run in runs_of_arm(arm)]


def has_metrics(folder: Path) -> bool:
    """Tell whether a run was evaluated, which is the last thing that is done."""
    return (folder / METRICS).is_file()


def is_finished(folder: Path) -> bool:
    """Tell whether a run folder has all its files."""
    return all((folder / name).is_file() for name in FILES)


def check_writable(folder: Path, advice: str) -> None:
    """Check that the folder can be made, or written to if it exists.

    Raises:
        InputError: it cannot; behind the reason stands the `advice`.
    """
    nearest = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not nearest.is_dir():
        raise InputError(f"{nearest} is a file. {advice}")
    if not os.access(nearest, os.W_OK):
        raise InputError(f"The folder {nearest} cannot be written to; see --out.")


def write_config(folder: Path, table: Table) -> None:
    """Write the configuration of a run, which `run` accepts back."""
    write_text(folder / CONFIG, format_toml(table))


def write_history(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a row per epoch; a rate that a phase does not have is left empty.

    Columns of rates come before the two of timing, whichever phase they are of.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    first = [column for column in columns if column not in _LAST_COLUMNS]
    write_csv(folder / HISTORY, [*first, *_LAST_COLUMNS], rows)
