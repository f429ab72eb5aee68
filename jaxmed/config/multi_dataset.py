"""A recipe of several sets of images: the same arms and seeds on every one of them.

    [sets]
    bloodmnist.data.source = "medmnist:bloodmnist"
    breastmnist.data.source = "medmnist:breastmnist"
    breastmnist.train.options.epochs = 30

Each set is an experiment like any other, in the folder NAME/SET, and what its table
says goes before the recipe's, and what an arm says before both. [published] has numbers
to compare with:

    [published]
    source = "where they are published"
    methods = ["ResNet-18", "ResNet-50"]
    auroc.bloodmnist = [0.998, 0.997]
    accuracy.bloodmnist = [0.958, nan]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxmed.config.published import PublishedResults, read_published_results
from jaxmed.config.recipes import (
    Recipe,
    Table,
    check_folder_name,
    merge_tables,
    resolve_recipe,
)
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.toml import read_toml


@dataclass(frozen=True, kw_only=True)
class Board:
    """A recipe of several sets.

    Attributes:
        name: of the folder that has one for each set.
        recipes: of the chosen sets, by the set's name.
        sets: all sets of the file, in its order.
        published: its table [published].
    """

    name: str
    recipes: dict[str, Recipe]
    sets: tuple[str, ...]
    published: PublishedResults

    @property
    def base(self) -> Recipe:
        """The recipe of the first set, for what all share."""
        return next(iter(self.recipes.values()))


def is_board(path: Path) -> bool:
    """Tell whether a recipe is of several sets."""
    return "sets" in read_toml(path)


def load_board(
    path: Path,
    overrides: Table | None = None,
    *,
    arms: list[str] | None = None,
    sets: list[str] | None = None,
) -> Board:
    """Read a recipe of several sets.

    Args:
        path: the TOML file.
        overrides: as in `load_recipe`; tables below "sets" change the set of that name
            alone.
        arms: the names of the arms to keep; None keeps all.
        sets: the names of the sets to keep; None keeps all.

    Raises:
        InputError: the file, or the overrides, do not fit the schema.
    """
    table, where = read_toml(path), str(path)
    by_set, published = table.pop("sets"), table.pop("published", {})
    if not isinstance(by_set, Mapping) or not by_set:
        raise InputError(f"{where}: sets must be tables, as [sets.NAME].")
    for_all = dict(overrides or {})
    per_set = for_all.pop("sets", {})
    if "source" in for_all.get("data", {}):
        raise InputError(
            f"{where} is of several sets of images, and --data.source would be the "
            "images of each. Use --sets.NAME.data.source."
        )
    name = for_all.pop("name", table.get("name", path.stem))
    check_folder_name(name, "name", where)
    chosen = list(by_set) if sets is None else sets
    for set_name in (*chosen, *per_set):
        if set_name not in by_set:
            raise unknown(f"set of {path.stem}", set_name, by_set)
    recipes = {}
    for set_name, set_table in by_set.items():
        check_folder_name(set_name, "set", where)
        if not isinstance(set_table, Mapping):
            raise InputError(
                f"{where}: sets.{set_name} must be a table, got {set_table!r}."
            )
        recipes[set_name] = resolve_recipe(
            merge_tables(table, set_table) | {"name": f"{name}/{set_name}"},
            path,
            f"{where}, set {set_name}",
            merge_tables(for_all, per_set.get(set_name, {})),
            arms=arms,
        )
    return Board(
        name=name,
        recipes={
            set_name: recipes[set_name] for set_name in by_set if set_name in chosen
        },
        sets=tuple(by_set),
        published=read_published_results(published, list(by_set), where),
    )
