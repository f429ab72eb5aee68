"""Table of the results by patient beside those by image."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxmed.report.tables.formatting import Table, estimate, metric_title, word
from jaxmed.runs.record import Arm

RULES = {
    "mean": "the mean of its images' probabilities",
    "max": "the highest of its images' probabilities",
    "noisy_or": "1 − the product of 1 − p over its images (noisy-or)",
}
RANKED = ("auroc", "auprc")
DECIDED = ("accuracy", "sensitivity", "specificity", "ppv", "npv")
OTHERS = ("accuracy", "balanced_accuracy", "f1", "mcc")
CALIBRATED = ("brier_calibrated", "intercept_calibrated", "slope_calibrated")


def patient_table(arms: Sequence[Arm]) -> Table | None:
    """Tabulate test metrics by image and by patient; None without such results.

    Of each arm's lowest seed.
    """
    shown = [arm for arm in arms if "by_patient" in arm.first.metrics]
    if not shown:
        return None
    columns, head, notes = [], [], []
    for arm in shown:
        metrics = arm.first.metrics
        of = metrics["by_patient"]
        if "reason" in of:
            notes.append(f"{arm.shown_name}: not by patient, {of['reason']}.")
            continue
        columns += [_numbers(metrics), _numbers(of)]
        sizes = metrics["test"]["n"], of["test"]["n"]
        counts = zip(sizes, ("images", "patients"), strict=True)
        head += [f"{arm.shown_name}, {n:,} {noun}" for n, noun in counts]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = tuple(
        (word(metric_title(name)), *(estimate(of.get(name)) for of in columns))
        for name in names
    )
    rule = RULES[shown[0].first.metrics["by_patient"]["aggregation"]]
    notes.insert(
        0,
        f"A patient's probability is {rule}, and a patient is of a class if an image "
        "is. Threshold and calibration are chosen anew, on the patients of val.",
    )
    return Table(
        caption="By image and by patient",
        head=("", *head),
        rows=rows,
        note=" ".join(notes),
    )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    test, at = metrics["test"], metrics["test_at_threshold"]
    binary = "sensitivity" in at
    numbers = {name: test.get(name) for name in RANKED}
    numbers |= {name: at[name] for name in DECIDED} if binary else {}
    if not binary:
        numbers |= {name: test.get(name) for name in OTHERS}
    calibration = metrics["calibration"]["test"]
    return numbers | {k: calibration[k] for k in CALIBRATED if k in calibration}
