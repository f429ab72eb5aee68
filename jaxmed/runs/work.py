"""Work that a run still needs, by its folder and its configuration."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from jaxmed.config.recipes import Recipe, Table
from jaxmed.config.schema import neutral_settings
from jaxmed.errors import InputError
from jaxmed.runs.layout import CONFIG, check_writable, is_finished, run_folder
from jaxmed.runtime import distributed
from jaxmed.runtime.files import UNFINISHED
from jaxmed.runtime.locks import HOLDER, LOCK, locked
from jaxmed.runtime.toml import read_toml

# What decides a run's numbers; texts about the experiment may change.
DECISIVE = ("name", "data", "augment", "model", "train", "evaluate", "explain")
# What is among that and does not: how often a run is saved, and where its images wait,
# whose data set's fingerprint tells.
NEUTRAL = neutral_settings()
# What is done with a model that is trained: another setting of it takes no training.
AFTER_TRAINING = ("evaluate.", "explain.")
# What a finished training that is extended may have otherwise.
OPTIONS = "train.options."
# What a run still needs: nothing; its stored predictions evaluated; or its images.
Work = Literal["none", "evaluation", "images"]


def work_left(folder: Path, table: Table) -> Work:
    """Tell what a run still needs to be as its table says.

    Args:
        folder: of the run; `check_folders` found nothing wrong with it.
        table: its configuration, as `Recipe.table` gives it.
    """
    if not is_finished(folder):
        return "images"
    changed = [key for key, *_ in differences(read_toml(folder / CONFIG), table)]
    if not changed:
        return "none"
    stored = all(k.startswith("evaluate.") and k != "evaluate.tta" for k in changed)
    return "evaluation" if stored else "images"


def is_extended(folder: Path, table: Table) -> bool:
    """Tell whether a finished run is to be trained on, with its strategy's options.

    Args:
        folder: of the run; `check_folders` found nothing wrong with it.
        table: its configuration, as `Recipe.table` gives it.
    """
    if not is_finished(folder):
        return False
    changed = differences(read_toml(folder / CONFIG), table)
    return any(key.startswith(OPTIONS) for key, *_ in changed)


def describe_change(folder: Path, table: Table) -> str:
    """Return what a run's table changes in its folder: "evaluate.cost is 2.0 ..."."""
    return ", ".join(
        f"{key} is {new} (was {old})"
        for key, old, new in differences(read_toml(folder / CONFIG), table)
    )


def check_folders(out: Path, recipe: Recipe, *, extend: bool = False) -> None:
    """Check that every run of a recipe can be written, or gone on with, below `out`.

    Args:
        out: the folder of all experiments.
        recipe: whose runs.
        extend: whether finished runs may have had other options of their strategy.

    Raises:
        InputError: something else is there: a file, another experiment, or a run that
            was trained otherwise or that another process works on.
    """
    check_writable(out, "--out must be a folder.")
    for arm, config in recipe.arms.items():
        for seed in config.train.seeds:
            folder = run_folder(out, recipe, arm, seed)
            _check_folder(folder, recipe.table(arm, seed), extend=extend)


def _check_folder(folder: Path, table: Table, *, extend: bool) -> None:
    advice = "Give another --out, or delete that folder."
    check_writable(folder, "Give another --out.")
    if not folder.exists():
        return
    if not (folder / CONFIG).is_file():
        # A run killed at its very start leaves an empty folder.
        started = (UNFINISHED, LOCK, HOLDER)
        if any(not path.name.startswith(started) for path in folder.iterdir()):
            raise InputError(f"{folder} holds something else than a run. {advice}")
        return
    extendable = is_finished(folder)
    for key, old, new in differences(read_toml(folder / CONFIG), table):
        if key.startswith(AFTER_TRAINING) or (
            extend and extendable and key.startswith(OPTIONS)
        ):
            continue
        if extendable and key.startswith(OPTIONS):
            advice = "Give another --out, --extend for more epochs, or delete it."
        raise InputError(
            f"{folder} holds another configuration: {key} is {old} there and {new} "
            f"here. {advice}"
        )
    # Now and not when all images are loaded.
    if distributed.is_process_zero() and work_left(folder, table) != "none":
        with locked(folder):
            pass


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """Compare what decides the numbers of two runs.

    Yields:
        A key that differs, with both its values, spelled out.
    """
    flat_old = _flatten({key: old.get(key, {}) for key in DECISIVE})
    flat_new = _flatten({key: new.get(key, {}) for key in DECISIVE})
    for key in dict.fromkeys([*flat_new, *flat_old]):
        before, after = flat_old.get(key), flat_new.get(key)
        if before != after and key not in NEUTRAL:
            yield key, _format(before), _format(after)


def _format(value: Any) -> str:
    return "not set" if value is None else repr(value)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
