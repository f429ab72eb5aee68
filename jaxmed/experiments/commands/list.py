"""`list`: the recipes that come with jaxmed, or the strategies and their options."""

import sys
from typing import Any

from jaxmed.config.multi_dataset import is_board, load_board
from jaxmed.config.published import Expectation
from jaxmed.config.recipes import load_recipe, recipe_files

HELP = "show the recipes, or with --strategies the strategies and their options"


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "--strategies",
        nargs="?",
        const="",
        metavar="NAME",
        help="show all strategies, their options, settings and schedules; or one",
    )


def execute(arguments: Any) -> None:
    """Carry the command out."""
    if arguments.strategies is None:
        _list_recipes()
        return
    # Only here: it brings JAX.
    from jaxmed.experiments.printing import strategies as strategies_text

    if arguments.strategies:
        print(strategies_text.describe_strategy(arguments.strategies))
    else:
        print(strategies_text.describe_strategies())


def _list_recipes() -> None:
    """Print data set, backbone, arms and published numbers of every recipe."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 3, 1, 0))
    for heading in ("recipe", "data", "backbone", "arms", "published"):
        table.add_column(heading, overflow="fold")
    for name, path in recipe_files().items():
        if is_board(path):
            board = load_board(path)
            recipes = list(board.recipes.values())
            published = board.published.methods
        else:
            recipes = [load_recipe(path)]
            published = [_format_expectation(e) for e in recipes[0].expect]
        configs = [config for recipe in recipes for config in recipe.arms.values()]
        sources = [f"{c.data.source} at {c.data.image_size} px" for c in configs]
        table.add_row(
            name,
            "\n".join(dict.fromkeys(sources)),
            "\n".join(dict.fromkeys(c.model.backbone for c in configs)),
            "\n".join(recipes[0].arms),
            "\n".join(published) or "-",
        )
    # A file or a pipe has no width; this one keeps the rows whole.
    width = None if sys.stdout.isatty() else 160
    Console(width=width, highlight=False).print(table)


def _format_expectation(entry: Expectation) -> str:
    several = isinstance(entry.value, tuple)
    values = entry.value if isinstance(entry.value, tuple) else (entry.value,)
    numbers = " ".join(f"{value:g}" for value in values)
    return f"{entry.arm} {entry.metric}{' by epoch' if several else ''} {numbers}"
