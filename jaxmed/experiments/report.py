"""`report`: the figures and the page, again, from what is stored."""

import json
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError
from jaxmed.experiments.folders import CONFIG
from jaxmed.experiments.toml import read_toml

HELP = "rebuild figures and report.html from stored files"


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments."""
    parser.add_argument(
        "folder",
        metavar="RUN_OR_EXPERIMENT_FOLDER",
        type=Path,
        help="such as runs/quickstart or runs/quickstart/frozen/seed-0",
    )


def execute(arguments: Any) -> None:
    """Carries the command out."""
    folder: Path = arguments.folder
    if not folder.is_dir():
        raise InputError(f"There is no folder {folder}.")
    if (folder / CONFIG).is_file():
        folder = folder.resolve().parents[1]
    print(f"Report: {rebuild_report(folder)}")


def rebuild_report(folder: Path) -> Path:
    """Builds the report of an experiment from its run folders.

    Args:
        folder: `OUT/<experiment>`.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no finished run in it.
    """
    from jaxmed.report.html import build_report

    tables = [read_toml(path) for path in sorted(folder.glob(f"*/seed-*/{CONFIG}"))]
    if not tables:
        raise InputError(
            f"{folder} is no experiment: no <arm>/seed-<n>/{CONFIG} in it."
        )
    base = tables[0]
    source = f" ({base['source']})" if base.get("source") else ""
    expected = []
    for table in tables:
        # Every seed of an arm has the same.
        expected += [e for e in table.get("expect", []) if e not in expected]
    return build_report(
        folder,
        title=base["name"],
        description=(base.get("description", "") + source).strip(),
        expected=expected,
        arms=_arms_in_order(folder),
    )


def _arms_in_order(folder: Path) -> list[str]:
    """Returns the arms as the recipe orders them, as far as the runs know."""
    orders = [
        json.loads(path.read_text(encoding="utf-8")).get("arms", [])
        for path in sorted(folder.glob("*/seed-*/environment.json"))
    ]
    return max(orders, key=len, default=[])
