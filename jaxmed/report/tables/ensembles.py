"""Table of ensembles: what averaging the runs of an arm gains over a single one."""

from collections.abc import Sequence

from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    count,
    estimate,
    metric_title,
    word,
)
from jaxmed.runs.ensemble import ensemble_gain
from jaxmed.runs.record import Arm

METRICS = ("auroc", "accuracy", "sensitivity", "specificity", "log_loss", "brier")


def ensemble_table(arms: Sequence[Arm]) -> Table | None:
    """Tabulate the gain of each arm's ensemble on the test split; None without one."""
    gains = {arm.name: ensemble_gain(arm.runs) for arm in arms if len(arm.runs) > 1}
    known = {name: result["gain"] for name, result in gains.items() if "gain" in result}
    if not known:
        return None
    first = next(iter(known.values()))
    names = [name for name in METRICS if name in first]
    runs = {arm.name: len(arm.runs) for arm in arms}
    rows: list[tuple[Cell, ...]] = []
    for name, gain in known.items():
        cells = [estimate(gain.get(metric), sign=True) for metric in names]
        rows.append((word(name), count(runs[name]), *cells))
    return Table(
        caption="Ensemble of an arm's runs, less a single run on average",
        head=("arm", "runs", *map(metric_title, names)),
        rows=tuple(rows),
        note="Probabilities are averaged; the ensemble's threshold is chosen on the "
        "averages of val. Intervals are paired, over the test images. `predict`, "
        "`validate` and `export` take an arm's folder as its ensemble.",
    )
