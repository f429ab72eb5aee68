"""Recipes: finding them, and resolving one into its arms."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jaxmed.config.published import Expectation, read_expectations
from jaxmed.config.schema import ExperimentConfig
from jaxmed.config.sections import build_config
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.toml import read_toml

Table = dict[str, Any]
# Of a recipe that names no arms.
ONLY_ARM = "main"
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
# Of a recipe of several sets of images: see `jaxmed.config.multi_dataset`.
OF_SETS = ("sets", "published")
# What the arms of a cross-validation have in common.
SHARED_BY_FOLDS = (
    *("cross_validation", "source", "split", "group_pattern", "split_seed", "folds"),
    *("fold", "repeat", "repeats", "fold_val", "val_share"),
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An experiment as it will be run.

    Attributes:
        path: the file it came from.
        arms: the resolved configuration of each chosen arm, by name.
        order: all arms of the file, in its order.
        expect: published numbers.
    """

    path: Path
    arms: dict[str, ExperimentConfig]
    order: tuple[str, ...]
    expect: tuple[Expectation, ...]

    @property
    def base(self) -> ExperimentConfig:
        """The configuration of the first arm, for what all arms share."""
        return next(iter(self.arms.values()))

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Every arm with every of its seeds."""
        return [
            (arm, seed)
            for arm, config in self.arms.items()
            for seed in config.train.seeds
        ]

    @property
    def folds(self) -> list["Recipe"]:
        """The recipe of every fold of a cross-validation; else this one alone."""
        data = self.base.data
        if not data.cross_validation or data.fold_number is not None:
            return [self]
        return [
            self._of_fold(fold, repeat)
            for repeat in range(data.repeats)
            for fold in range(data.folds)
        ]

    def _of_fold(self, fold: int, repeat: int) -> "Recipe":
        arms = {
            name: replace(config, data=replace(config.data, fold=fold, repeat=repeat))
            for name, config in self.arms.items()
        }
        return replace(self, arms=arms)

    def only(self, arm: str, seed: int) -> "Recipe":
        """Return the recipe of one of its runs."""
        config = self.arms[arm]
        train = replace(config.train, seeds=(seed,))
        return replace(self, arms={arm: replace(config, train=train)})

    def table(self, arm: str, seed: int) -> Table:
        """Return one run as a recipe of its own, as `format_toml` writes it."""
        config = asdict(self.arms[arm])
        config["train"]["seeds"] = (seed,)
        # A path beside this recipe, seen from anywhere.
        config["needs"] = tuple(
            str((self.path.parent / need).resolve()) if is_path(need) else need
            for need in config["needs"]
        )
        expect = [asdict(e) for e in self.expect if e.arm == arm]
        return config | {"arms": {arm: {}}} | ({"expect": expect} if expect else {})


def recipes_folder() -> Path:
    """Return the folder of recipes: the checkout's, or the one in the package."""
    package = Path(__file__).resolve().parents[1] / "experiments"
    checkout = package.parents[1]
    if (checkout / "pyproject.toml").is_file() and (checkout / "experiments").is_dir():
        return checkout / "experiments"
    return package / "recipes"


def recipe_files() -> dict[str, Path]:
    """Return the recipes that come with jaxmed, by name."""
    return {path.stem: path for path in sorted(recipes_folder().glob("*.toml"))}


def find_recipe(name: str) -> Path:
    """Return the file of a recipe.

    Args:
        name: a recipe that comes with jaxmed, or the path of a .toml file.

    Raises:
        InputError: there is none.
    """
    files = recipe_files()
    if name in files:
        return files[name]
    if is_path(name):
        if not Path(name).is_file():
            raise InputError(
                f"There is no recipe file {name}. Give the path of a .toml file, or "
                "one of the names that `list` shows."
            )
        return Path(name)
    raise unknown("recipe", name, files)


def is_path(name: str) -> bool:
    """Tell a recipe's path from its name."""
    return name.endswith(".toml") or "/" in name


def load_recipe(
    path: Path, overrides: Table | None = None, *, arms: list[str] | None = None
) -> Recipe:
    """Read a recipe and resolve its arms.

    Args:
        path: the TOML file.
        overrides: nested tables, from flags, that change every arm; tables below
            "arms" change the arm of that name alone.
        arms: the names of the arms to keep; None keeps all.

    Raises:
        InputError: the file, or the overrides, do not fit the schema; or the recipe
            is of several sets of images, and the overrides do not say which images.
    """
    table = read_toml(path)
    if "sets" in table:
        table = _of_one_source(table, overrides or {}, str(path))
    return resolve_recipe(table, path, str(path), overrides, arms=arms)


def resolve_recipe(
    table: Table,
    path: Path,
    where: str,
    overrides: Table | None = None,
    *,
    arms: list[str] | None = None,
) -> Recipe:
    """Resolve the arms of a recipe that was read.

    Args:
        table: as `tomllib` gives it, of one set of images.
        path: the file it came from.
        where: what messages call it.
        overrides, arms: as in `load_recipe`.

    Raises:
        InputError: as `load_recipe`.
    """
    table = dict(table)
    expect = table.pop("expect", [])
    by_name = table.pop("arms", {ONLY_ARM: {}})
    table.setdefault("name", path.stem)
    if not isinstance(by_name, Mapping) or not by_name:
        raise InputError(f"{where}: arms must be tables, as [arms.NAME].")
    for arm, arm_table in by_name.items():
        if not isinstance(arm_table, Mapping):
            raise InputError(f"{where}: arms.{arm} must be a table, got {arm_table!r}.")
        check_folder_name(arm, "arm", where)
        if re.fullmatch(r"(fold|seed)-\d+", arm):
            raise InputError(
                f"{where}: arm {arm!r} has the name of a folder of one of its runs. "
                "Give it another one."
            )
    # The file alone first, so that its mistakes are not blamed on the flags.
    resolved = {
        arm: build_config(merge_tables(table, arm_table), f"{where}, arm {arm}")
        for arm, arm_table in by_name.items()
    }
    expectations = read_expectations(expect, list(by_name), where)
    for_all = dict(overrides or {})
    per_arm = for_all.pop("arms", {})
    chosen = list(by_name) if arms is None else arms
    for arm in (*chosen, *per_arm):
        if arm not in by_name:
            raise unknown(f"arm of {path.stem}", arm, by_name)
    for arm in chosen if overrides else ():
        merged = table
        for over in (by_name[arm], for_all, per_arm.get(arm, {})):
            merged = merge_tables(merged, over)
        resolved[arm] = build_config(merged, f"Flags, arm {arm}")
    names = {config.name for config in resolved.values()}
    for name in names:
        # A set of a recipe of several has a folder below the recipe's.
        for part in name.split("/", maxsplit=1):
            check_folder_name(part, "name", where)
    if len(names) > 1:
        raise InputError(f"{where}: the arms must share one name, got {sorted(names)}.")
    _check_cross_validation(resolved, where)
    return Recipe(
        path=path,
        arms={arm: resolved[arm] for arm in by_name if arm in chosen},
        order=tuple(by_name),
        expect=tuple(e for e in expectations if e.arm in chosen),
    )


def needed_recipes(recipe: Recipe) -> list[Recipe]:
    """Return the recipes that must run first, in order, theirs included.

    Raises:
        InputError: one cannot be found or read, or they need each other in a circle.
    """
    needed: dict[Path, Recipe] = {}

    def visit(current: Recipe, trail: tuple[Path, ...]) -> None:
        for need in current.base.needs:
            name = str(current.path.parent / need) if is_path(need) else need
            path = find_recipe(name).resolve()
            if path in trail:
                names = " needs ".join(p.stem for p in (*trail, path))
                raise InputError(f"These recipes need each other: {names}.")
            if path not in needed:
                loaded = load_recipe(path)
                visit(loaded, (*trail, path))
                needed[path] = loaded

    visit(recipe, (recipe.path.resolve(),))
    return list(needed.values())


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> Table:
    """Return `base` with the values of `over` in place of its own, table by table.

    A table over a list changes those of the list's tables that its keys name by their
    numbers, from 1, as the phases of the strategy "sequence".

    Raises:
        InputError: there is no table of such a number.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(value, Mapping) and isinstance(old, list):
            numbered = {str(number): entry for number, entry in enumerate(old, start=1)}
            for number in value:
                if not isinstance(numbered.get(number), Mapping):
                    raise unknown(f"number of a table in {key}", number, numbered)
            merged[key] = list(merge_tables(numbered, value).values())
        elif isinstance(value, Mapping) and isinstance(old, Mapping):
            merged[key] = merge_tables(old, value)
        else:
            merged[key] = value
    return merged


def _check_cross_validation(arms: Mapping[str, ExperimentConfig], where: str) -> None:
    """Raises InputError if folds, or the arms of a cross-validation, do not fit."""
    first, *others = arms.values()
    for config in arms.values():
        data = config.data
        if data.cross_validation and data.folds < 3:
            raise InputError(
                f"{where}: data.cross_validation needs data.folds of at least 3 (for "
                f"train, val and test), got {data.folds}."
            )
        if data.repeats > 1 and not data.cross_validation:
            raise InputError(
                f"{where}: data.repeats is {data.repeats}, which is for "
                "data.cross_validation. Set that to true, or leave repeats out."
            )
        if data.cross_validation and data.fold < 0 < data.repeat:
            raise InputError(
                f"{where}: data.repeat is one division into folds, and "
                "data.cross_validation goes through data.repeats of them. Leave repeat "
                "out, or set fold too."
            )
    for config in others:
        for name in SHARED_BY_FOLDS if first.data.cross_validation else ():
            ours, theirs = (getattr(arm.data, name) for arm in (first, config))
            if ours != theirs:
                raise InputError(
                    f"{where}: the arms of a cross-validation need the same folds, and "
                    f"data.{name} is {ours!r} and {theirs!r}."
                )
    if len({config.data.cross_validation for config in arms.values()}) > 1:
        raise InputError(
            f"{where}: data.cross_validation must be the same for all arms."
        )


def _of_one_source(table: Table, overrides: Table, where: str) -> Table:
    """Return the recipe without its sets, about the images that a flag names."""
    data = overrides.get("data", {})
    if "source" not in data:
        raise InputError(
            f"{where} is of several sets of images, see its [sets]. Say by "
            "--data.source which images this is about."
        )
    kept = {key: value for key, value in table.items() if key not in OF_SETS}
    return merge_tables(kept, {"data": {"source": data["source"]}})


def check_folder_name(name: Any, role: str, where: str) -> None:
    """Raises InputError if a name in a recipe cannot be a folder's."""
    if not isinstance(name, str) or not FOLDER_NAME.fullmatch(name):
        raise InputError(
            f"{where}: {role} {name!r} must be letters, digits, '_', '-' and '.', "
            "because it names a folder."
        )
