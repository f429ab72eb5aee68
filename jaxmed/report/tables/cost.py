"""What each arm cost beside what it reached."""

from statistics import fmean
from typing import Any

from jaxmed.report.arm_estimates import COMPARED, Comparison
from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    count,
    estimate,
    metric_title,
    number,
    word,
)
from jaxmed.runs.record import Arm


def cost_table(comparison: Comparison) -> Table:
    """A row per arm: its first metric, parameters trained, epochs and seconds.

    Trained parameters are the most in any phase. Epochs and seconds, which are those
    of training with its validation, are means over the seeds.
    """
    metric = COMPARED[0]
    rows = []
    for arm in comparison.arms:
        found = comparison.estimate(arm, "test", metric)
        rows.append((word(arm.name), estimate(found), *_costs(arm)))
    head = ("arm", f"test {metric_title(metric)}", "trained parameters")
    return Table(
        caption="Cost",
        head=(*head, "epochs", "seconds", "images/s"),
        rows=tuple(rows),
        note="Parameters: the most that any phase trains. Epochs, seconds (training "
        "with validation and checkpoints) and images per second (training alone, "
        "median epoch): mean over seeds; seconds depend on the machine and on what "
        "else it does.",
    )


def _costs(arm: Arm) -> tuple[Cell, ...]:
    environments = [run.environment for run in arm.runs]
    trained = [n for one in environments if (n := _most_trained(one)) is not None]
    seconds = [one["seconds"] for one in environments if one.get("seconds")]
    epochs = [len(run.history) for run in arm.runs if run.history]
    speeds = [
        sorted(row["images_per_second"] for row in run.history)[len(run.history) // 2]
        for run in arm.runs
        if run.history
    ]
    return (
        count(max(trained) if trained else None),
        number(_mean(epochs), digits=0),
        number(_mean(seconds), digits=0),
        number(_mean(speeds), digits=0),
    )


def _most_trained(environment: dict[str, Any]) -> int | None:
    phases = environment.get("parameters", {}).get("phases", [])
    return max((phase["trainable"] for phase in phases), default=None)


def _mean(values: list[Any]) -> float | None:
    return fmean(values) if values else None
