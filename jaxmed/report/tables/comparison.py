"""Tables and sentences of a comparison by `compare_arms`."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxmed.evaluation.intervals.estimate import LEVEL
from jaxmed.evaluation.metrics.registry import METRICS
from jaxmed.report.figures.style import format_number
from jaxmed.report.tables.formatting import (
    Cell,
    Table,
    estimate,
    format_p,
    metric_title,
    number,
    word,
)
from jaxmed.report.text.headline import format_difference, with_test_interval

ComparisonResult = Mapping[str, Any]
"""What `jaxmed.evaluation.compare_arms` returns; one of its "comparisons"."""

TESTS = {
    "delong": "DeLong",
    "delong_clustered": "DeLong, of patients",
    "mcnemar_exact": "McNemar, exact",
    "mcnemar_chi2": "McNemar, χ²",
    "bootstrap": "bootstrap",
}
INDEPENDENT = (
    "Patients are not known, so that intervals and tests treat images as independent; "
    "with several images per patient, intervals are too narrow."
)


def comparison_sentences(result: ComparisonResult) -> list[str]:
    """Describe each pair's difference in AUROC, or else in accuracy."""
    sentences = []
    for pair in result["comparisons"]:
        main = "auroc" if _defined(pair, "auroc") else "accuracy"
        if not _defined(pair, main):
            sentences.append(
                f"{pair['a']} and {pair['b']}: neither AUROC nor accuracy is defined "
                "for both; the table says why."
            )
            continue
        value = result["arms"][pair["a"]]["metrics"][main]["value"]
        difference = pair["metrics"][main]
        sentences.append(
            f"{pair['a']} has a test {metric_title(main)} of {format_number(value)}, "
            f"{format_difference(difference, pair['b'])}; "
            f"{_significance(result, difference)}."
        )
    return sentences


def method_sentences(result: ComparisonResult) -> list[str]:
    """Explain the compared images, decisions, intervals and tests."""
    groups = result.get("groups")
    images = f"{result['n']:,} test images"
    if groups:
        images += f" of {groups:,} groups, resampled as wholes"
    formula = f"DeLong's{', summed over groups (Obuchowski),' if groups else ''} for "
    formula += "the AUROC of one class, else "
    method, times = (result["intervals"][name] for name in ("method", "resamples"))
    sentences = [
        f"The same {images}. Intervals are 95 %: {formula}{method} ({times:,} "
        "resamples). p values are two-sided.",
        "Decisions are at each run's threshold, chosen on its validation split."
        if result["task"] in ("binary", "multilabel")
        else "Decisions are the most probable class.",
        *interval_sentences(
            several=any(_seeds(result, name) > 1 for name in result["arms"]),
            single=any(_seeds(result, name) == 1 for name in result["arms"]),
            patients=bool(groups),
        ),
        "Every metric is tested, and among many tests some p values are small by "
        "chance: draw conclusions from a metric that was chosen beforehand.",
    ]
    if _adjusted(result):
        sentences.append(
            "p (Holm) is adjusted for the number of comparisons, metric by metric."
        )
        sentences += _unresolved(result)
    return sentences


def interval_sentences(*, several: bool, single: bool, patients: bool) -> list[str]:
    """Explain the question that intervals and tests answer, and their limits.

    Args:
        several: some arm was trained with several seeds.
        single: some arm was trained once.
        patients: whole patients, or other groups of images, are drawn.
    """
    sentences = [
        "Intervals and tests over images are about these trained models on other "
        "images from the same source. They do not extend to other sources, such as "
        "another hospital. A difference that is not significant may still exist."
    ]
    if not patients:
        sentences.append(INDEPENDENT)
    if several:
        sentences.append(
            "Intervals and tests for retrained models add the variance of the seeds to "
            "that of the images (Student's t, Satterthwaite's degrees of freedom), "
            "assuming that seeds are normally distributed. With few seeds, only large "
            "differences are significant."
        )
    if single:
        sentences.append(
            "An arm with one seed may be better or worse because of the seed; these "
            "runs cannot show by how much."
        )
    return sentences


def _unresolved(result: ComparisonResult) -> list[str]:
    """Warn where the bootstrap has too few resamples for a significant result."""
    lowest = 2 / (result["intervals"]["resamples"] + 1)
    unresolved = any(
        difference["test"] == "bootstrap"
        and difference["p"] <= lowest
        and difference["p_holm"] > 1 - LEVEL
        for pair in result["comparisons"]
        for metrics in (pair["metrics"], *pair["per_class"].values())
        for difference in metrics.values()
        if difference["p"] is not None
    )
    if not unresolved:
        return []
    return [
        f"A bootstrap p cannot be below {lowest:.2g} here, and adjusted for this many "
        "comparisons, even that exceeds 0.05: such a difference is not significant "
        "because of the number of resamples or comparisons."
    ]


def difference_table(result: ComparisonResult, pair: ComparisonResult) -> Table:
    """Tabulate a pair's metrics: both values, their difference, and its test."""
    a, b = pair["a"], pair["b"]
    rows = []
    for metric, difference in pair["metrics"].items():
        values = (number(result["arms"][n]["metrics"][metric]["value"]) for n in (a, b))
        name = _metric_cell(metric)
        rows.append((name, *values, *_tested(result, difference)))
    return Table(
        caption=f"{a} − {b}: on images",
        head=("metric", a, b, "difference", *_p_heads(result), "test"),
        rows=tuple(rows),
        note="↓ lower is better.",
    )


def class_difference_table(
    result: ComparisonResult, pair: ComparisonResult
) -> Table | None:
    """Tabulate a pair's differences by class and metric; None in binary tasks."""
    rows = [
        (word(name), word(metric_title(metric)), *_tested(result, difference, True))
        for name, metrics in pair["per_class"].items()
        for metric, difference in metrics.items()
    ]
    if not rows:
        return None
    return Table(
        caption=f"{pair['a']} − {pair['b']}: class by class, on images",
        head=("class", "metric", "difference", "p", "p (Holm)", "test"),
        rows=tuple(rows),
        note="p (Holm) is adjusted for the number of classes and comparisons.",
    )


def training_table(result: ComparisonResult, pair: ComparisonResult) -> Table | None:
    """Tabulate a pair's differences for retrained models; None without seeds."""
    a, b = pair["a"], pair["b"]
    if not any(_seeds(result, name) > 1 for name in (a, b)):
        return None
    rows = []
    for metric, difference in pair["metrics"].items():
        again = difference["another_training"]
        shown_again = {"value": difference["value"], **again}
        rows.append(
            (
                _metric_cell(metric),
                estimate(shown_again, sign=True),
                *_p_cells(result, shown_again),
                number(again.get("df"), digits=1),
            )
        )
    seeds = " and ".join(str(_seeds(result, name)) for name in (a, b))
    return Table(
        caption=f"{a} − {b}: retrained models (seeds: {seeds})",
        head=("metric", "difference", *_p_heads(result), "df"),
        rows=tuple(rows),
        note="↓ lower is better. df: Satterthwaite's degrees of freedom.",
    )


def net_benefit_table(pair: ComparisonResult) -> Table | None:
    """Tabulate a pair's differences in net benefit; None unless the task is binary."""
    benefit = pair["net_benefit"]
    rows = [
        (word(f"{threshold:g}"), estimate(difference, sign=True))
        for threshold, difference in zip(
            benefit["thresholds"], benefit["differences"], strict=True
        )
    ]
    if not rows:
        return None
    return Table(
        caption=f"{pair['a']} − {pair['b']}: net benefit",
        head=("threshold", "difference"),
        rows=tuple(rows),
        note="Of calibrated probabilities, in true positives per image. 0.01 is one "
        "more in 100 images at the same number of false positives.",
    )


def spread_table(result: ComparisonResult) -> Table | None:
    """Tabulate mean, SD and range over seeds; None if no arm has several."""
    rows = []
    for name, arm in result["arms"].items():
        for metric, summary in arm["metrics"].items():
            if summary["seeds"] > 1 and summary["value"] is not None:
                parts = (summary[part] for part in ("value", "std", "min", "max"))
                cells = (number(part, digits=4) for part in parts)
                rows.append((word(name), word(metric_title(metric)), *cells))
    if not rows:
        return None
    head = ("arm", "metric", "mean", "SD", "lowest", "highest")
    return Table(caption="Variation over seeds", head=head, rows=tuple(rows))


def comparison_rows(result: ComparisonResult) -> Iterator[dict[str, Any]]:
    """Yield all comparisons, as rows of one long table."""
    for pair in result["comparisons"]:
        of_classes = {"": pair["metrics"]} | pair["per_class"]
        for name, metrics in of_classes.items():
            for metric, difference in metrics.items():
                values = {
                    side: result["arms"][pair[side]]["metrics"][metric]["value"]
                    for side in "ab"
                    if not name
                }
                row = {"a": pair["a"], "b": pair["b"], "class": name, "metric": metric}
                row |= {f"value_{side}": values.get(side) for side in "ab"}
                yield row | _row(difference, "images")
                if min(_seeds(result, pair[side]) for side in "ab") > 1:
                    again = difference["another_training"]
                    again = {"value": difference["value"], "test": "t", **again}
                    yield row | _row(again, "images and seeds")


def lower_is_better(metric: str) -> bool:
    """Return whether a lower value of a metric means a better model."""
    return metric in METRICS and METRICS[metric].lower_is_better


def _metric_cell(metric: str) -> Cell:
    return word(metric_title(metric) + " ↓" * lower_is_better(metric))


def _significance(result: ComparisonResult, difference: Mapping[str, Any]) -> str:
    """Format the p values of both tests, and whether adjustment changes a result."""
    test = TESTS[difference["test"]]
    again = difference["another_training"]
    parts = [_format_test(result, f"these models, {test}", difference)]
    if again["p"] is not None:
        parts.append(_format_test(result, "retrained models", again))
    else:
        parts.append(f"retrained models: not tested, {again['reason']}")
    return "; ".join(parts)


def _format_test(
    result: ComparisonResult, title: str, tested: Mapping[str, Any]
) -> str:
    p, adjusted = tested["p"], tested["p_holm"]
    text = f"{title}: p {_equals(p)}"
    if not _adjusted(result) or p is None:
        return text
    text += (
        f", adjusted for {len(result['comparisons'])} comparisons {_equals(adjusted)}"
    )
    unclear = p <= 1 - LEVEL < adjusted
    return f"{text}, so no longer significant" if unclear else text


def _row(difference: Mapping[str, Any], on: str) -> dict[str, Any]:
    result = with_test_interval(difference)
    row = {"on": on, "difference": result["value"]}
    names = ("ci_low", "ci_high", "p", "p_holm", "test", "reason")
    return row | {name: result.get(name) for name in names}


def _tested(result, difference, holm: bool = False) -> tuple[Cell, ...]:
    """Return the cells of a difference, its p values and its test."""
    test = TESTS.get(difference["test"], "–")
    if "only_a" in difference:
        test += f" ({difference['only_a']} : {difference['only_b']})"
    p_cells = _p_cells(result, difference, holm)
    return (estimate(_of_models(difference), sign=True), *p_cells, word(test))


def _of_models(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Return a difference without that of retrained models, which has its own table."""
    return {
        k: v
        for k, v in with_test_interval(difference).items()
        if k != "another_training"
    }


def _p_cells(result, difference, holm: bool = False) -> tuple[Cell, ...]:
    p = difference["p"]
    reason = difference.get("reason", "") if difference["value"] is not None else ""
    cells = [Cell(text=format_p(p), exact=p, note=reason)]
    if holm or _adjusted(result):
        adjusted = difference["p_holm"]
        cells.append(Cell(text=format_p(adjusted), exact=adjusted))
    return tuple(cells)


def _p_heads(result: ComparisonResult) -> tuple[str, ...]:
    return ("p", "p (Holm)") if _adjusted(result) else ("p",)


def _adjusted(result: ComparisonResult) -> bool:
    return len(result["comparisons"]) > 1


def _seeds(result: ComparisonResult, name: str) -> int:
    return next(iter(result["arms"][name]["metrics"].values()))["seeds"]


def _defined(pair: ComparisonResult, metric: str) -> bool:
    return pair["metrics"].get(metric, {}).get("value") is not None


def _equals(p: float | None) -> str:
    text = format_p(p)
    return text if text.startswith("<") else f"= {text}"
