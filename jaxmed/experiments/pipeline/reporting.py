"""Reports of an experiment: its page, and figures and tables for a paper."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmed.config.published import Expectation
from jaxmed.errors import InputError
from jaxmed.runs.layout import CONFIG, ENVIRONMENT, runs_of_arm, runs_of_experiment
from jaxmed.runtime.files import read_json
from jaxmed.runtime.toml import read_toml


def rebuild_report(folder: Path) -> Path:
    """Build the report of an experiment from its run folders.

    Args:
        folder: `OUT/<experiment>`.

    Returns:
        The path of report.html.

    Raises:
        InputError: there is no finished run in it.
    """
    from jaxmed.report.pages.cross_validation import (
        build_cross_validation,
        is_cross_validation,
    )
    from jaxmed.report.pages.experiment import build_report

    tables = _configurations(folder)
    base = tables[0]
    source = f" ({base['source']})" if base.get("source") else ""
    if is_cross_validation(folder):
        return build_cross_validation(
            folder,
            title=base["name"],
            description=(base.get("description", "") + source).strip(),
            arms=_arms_in_order(folder),
        )
    return build_report(
        folder,
        title=base["name"],
        description=(base.get("description", "") + source).strip(),
        expected=_expected(tables),
        arms=_arms_in_order(folder),
    )


def export_paper(folder: Path, formats: Sequence[str]) -> list[Path]:
    """Write the figures and tables of an experiment for a paper.

    Args:
        folder: `OUT/<experiment>`.
        formats: "pdf", "csv", "latex".

    Returns:
        The folders written to.

    Raises:
        InputError: there is no finished run in it.
    """
    from jaxmed.report.pages.cross_validation import is_cross_validation
    from jaxmed.report.pages.paper import write_paper

    if is_cross_validation(folder):
        raise InputError(
            f"{folder} is a cross-validation, of whose folds there are no figures for "
            "a paper. cross_validation.json has its numbers; leave --format out for "
            "the page."
        )
    expected = _expected(_configurations(folder))
    return write_paper(folder, formats, expected=expected, arms=_arms_in_order(folder))


def _configurations(folder: Path) -> list[dict[str, Any]]:
    tables = [
        read_toml(run / CONFIG)
        for run in runs_of_experiment(folder)
        if (run / CONFIG).is_file()
    ]
    if not tables:
        hint = (
            f" Did you mean {folder.resolve().parent}?" if runs_of_arm(folder) else ""
        )
        raise InputError(
            f"{folder} is no experiment: no <arm>/seed-<n>/{CONFIG} in it.{hint}"
        )
    return tables


def _expected(tables: Sequence[dict[str, Any]]) -> list[Expectation]:
    """Return the published numbers; every seed of an arm has the same."""
    entries = [
        Expectation(**entry) for table in tables for entry in table.get("expect", [])
    ]
    return [entry for i, entry in enumerate(entries) if entry not in entries[:i]]


def _arms_in_order(folder: Path) -> list[str]:
    """Return the arms as the recipe orders them, as far as the runs know."""
    orders = [
        read_json(run / ENVIRONMENT).get("arms", [])
        for run in runs_of_experiment(folder)
        if (run / ENVIRONMENT).is_file()
    ]
    return max(orders, key=len, default=[])
