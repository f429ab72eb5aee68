"""Arguments that several commands take."""

from pathlib import Path
from typing import Any


def add_recipe(parser: Any) -> None:
    """Declares which recipe a command is about."""
    parser.add_argument(
        "recipe",
        metavar="NAME_OR_TOML",
        help="a name that `list` shows, or the path of a recipe or config.toml",
    )


def add_out(parser: Any, meaning: str = "folder of all experiments") -> None:
    """Declares the folder of all experiments.

    Args:
        parser: of the command.
        meaning: what the command does with it.
    """
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("runs"),
        help=f"{meaning} (default: runs)",
    )
