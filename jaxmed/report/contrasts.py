"""What `compare_arms` found, as tables and sentences."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaxmed.evaluation.intervals import LEVEL
from jaxmed.report.style import spell
from jaxmed.report.tables import Cell, Table, estimate, metric_title, number, word
from jaxmed.report.verdict import gap

Contrasts = Mapping[str, Any]
"""What `jaxmed.evaluation.compare_arms` returns; one of its "comparisons"."""

TESTS = {
    "delong": "DeLong",
    "mcnemar_exact": "McNemar, exact",
    "mcnemar_chi2": "McNemar, χ²",
    "bootstrap": "bootstrap",
}
LOWER_IS_BETTER = ("log_loss", "brier")


def tell_contrasts(found: Contrasts) -> list[str]:
    """Says of each pair how far apart it is in AUROC, or else in accuracy."""
    sentences = []
    for one in found["comparisons"]:
        main = "auroc" if _defined(one, "auroc") else "accuracy"
        if not _defined(one, main):
            sentences.append(
                f"{one['a']} and {one['b']}: neither AUROC nor accuracy is defined for "
                "both; the table says why."
            )
            continue
        value = found["arms"][one["a"]]["metrics"][main]["value"]
        difference = one["metrics"][main]
        sentences.append(
            f"{one['a']} has a test {metric_title(main)} of {spell(value)}, "
            f"{gap(shown(difference), one['b'])}; {_significance(found, difference)}."
        )
    return sentences


def explain_contrasts(found: Contrasts) -> list[str]:
    """Says what the numbers are about, and what they are not."""
    images = f"{found['n']:,} test images"
    if "groups" in found:
        images += f" of {found['groups']:,} groups, which are drawn as wholes"
    formula = "" if "groups" in found else "DeLong's for the AUROC of one class, else "
    method, times = (found["intervals"][name] for name in ("method", "resamples"))
    sentences = [
        f"The same {images}. Intervals are 95 %: {formula}{method} ({times:,} "
        "resamples). p values are two-sided.",
        "Decisions are at each run's own threshold, chosen on its validation split."
        if found["task"] in ("binary", "multilabel")
        else "Decisions are the most probable class.",
        "The tests on images ask whether these trained models would differ on other "
        "images drawn like these. They tell nothing of images from elsewhere, such as "
        "another hospital, and a difference that is not clear is not thereby none.",
        "There is a test for every metric, and the more are looked at, the more are "
        "small by chance: conclude from the one that was chosen beforehand.",
    ]
    if _adjusted(found):
        sentences.append(
            "p (Holm) is adjusted for the number of comparisons, metric by metric."
        )
    if any(_has_seeds(one) for one in found["comparisons"]):
        sentences.append(
            "The tests on seeds ask whether training again would give a difference on "
            "these very images. They are Welch's t tests, which take the values of "
            "seeds as normal; from a few seeds only large differences become clear."
        )
    if any(_seeds(found, name) == 1 for name in found["arms"]):
        sentences.append(
            "What was trained once may be better or worse by its seed alone; how much "
            "that is cannot be told from these runs."
        )
    return sentences


def difference_table(found: Contrasts, one: Contrasts) -> Table:
    """A row per metric: both values, their difference, and the test on images."""
    a, b = one["a"], one["b"]
    rows = []
    for metric, difference in one["metrics"].items():
        values = (number(found["arms"][n]["metrics"][metric]["value"]) for n in (a, b))
        note = " ↓" if metric in LOWER_IS_BETTER else ""
        name = word(f"{metric_title(metric)}{note}")
        rows.append((name, *values, *_tested(found, difference)))
    return Table(
        caption=f"{a} − {b}: on images",
        head=("metric", a, b, "difference", *_p_heads(found), "test"),
        rows=tuple(rows),
        note="↓ lower is better.",
    )


def class_difference_table(found: Contrasts, one: Contrasts) -> Table | None:
    """A row per class and metric of it; None in binary tasks."""
    rows = [
        (word(name), word(metric_title(metric)), *_tested(found, difference, True))
        for name, metrics in one["per_class"].items()
        for metric, difference in metrics.items()
    ]
    if not rows:
        return None
    return Table(
        caption=f"{one['a']} − {one['b']}: class by class, on images",
        head=("class", "metric", "difference", "p", "p (Holm)", "test"),
        rows=tuple(rows),
        note="p (Holm) is adjusted for the number of classes and comparisons.",
    )


def seeds_table(found: Contrasts, one: Contrasts) -> Table | None:
    """A row per metric: the difference between the means of seeds, tested on them."""
    if not _has_seeds(one):
        return None
    rows = []
    for metric, difference in one["metrics"].items():
        apart = difference["over_seeds"]
        cells = [estimate(apart, sign=True), *_p_cells(found, apart)]
        rows.append((word(metric_title(metric)), *cells))
    a, b = (_seeds(found, one[side]) for side in "ab")
    return Table(
        caption=f"{one['a']} − {one['b']}: on seeds ({a} and {b})",
        head=("metric", "difference", *_p_heads(found)),
        rows=tuple(rows),
    )


def spread_table(found: Contrasts) -> Table | None:
    """Mean, SD and range over seeds of arms that have several; None if none has."""
    rows = []
    for name, arm in found["arms"].items():
        for metric, summary in arm["metrics"].items():
            if summary["seeds"] > 1 and summary["value"] is not None:
                parts = (summary[part] for part in ("value", "std", "min", "max"))
                cells = (number(part, digits=4) for part in parts)
                rows.append((word(name), word(metric_title(metric)), *cells))
    if not rows:
        return None
    head = ("arm", "metric", "mean", "SD", "lowest", "highest")
    return Table(caption="Over seeds", head=head, rows=tuple(rows))


def contrast_rows(found: Contrasts) -> Iterator[dict[str, Any]]:
    """Everything that was compared, as rows of one long table."""
    for one in found["comparisons"]:
        of_classes = {"": one["metrics"]} | one["per_class"]
        for name, metrics in of_classes.items():
            for metric, difference in metrics.items():
                values = {
                    side: found["arms"][one[side]]["metrics"][metric]["value"]
                    for side in "ab"
                    if not name
                }
                row = {"a": one["a"], "b": one["b"], "class": name, "metric": metric}
                row |= {f"value_{side}": values.get(side) for side in "ab"}
                yield row | _row(difference, "images")
                if "over_seeds" in difference:
                    apart = {"test": "welch"} | difference["over_seeds"]
                    yield row | _row(apart, "seeds")


def shown(difference: Mapping[str, Any]) -> dict[str, Any]:
    """An estimate with the interval that goes with its test."""
    return {**difference, **difference.get("delong", {})}


def spell_p(p: float | None) -> str:
    """A p value for people: "0.031", "< 0.001", or a dash for none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _significance(found: Contrasts, difference: Mapping[str, Any]) -> str:
    """Says the p values, and if what looks clear is not once it is adjusted."""
    p, adjusted = difference["p"], difference["p_holm"]
    text = f"{TESTS[difference['test']]}: p {_equals(p)}"
    if not _adjusted(found):
        return text
    text += (
        f", adjusted for {len(found['comparisons'])} comparisons {_equals(adjusted)}"
    )
    unclear = p <= 1 - LEVEL < adjusted
    return f"{text}, so no longer clear" if unclear else text


def _row(difference: Mapping[str, Any], on: str) -> dict[str, Any]:
    found = shown(difference)
    row = {"on": on, "difference": found["value"]}
    names = ("ci_low", "ci_high", "p", "p_holm", "test", "reason")
    return row | {name: found.get(name) for name in names}


def _tested(found, difference, holm: bool = False) -> tuple[Cell, ...]:
    """Cells of a difference, its p values and its test."""
    test = TESTS.get(difference["test"], "–")
    if "only_a" in difference:
        test += f" ({difference['only_a']} : {difference['only_b']})"
    p_cells = _p_cells(found, difference, holm)
    return (estimate(shown(difference), sign=True), *p_cells, word(test))


def _p_cells(found, difference, holm: bool = False) -> tuple[Cell, ...]:
    p = difference["p"]
    reason = difference.get("reason", "") if difference["value"] is not None else ""
    cells = [Cell(text=spell_p(p), exact=p, note=reason)]
    if holm or _adjusted(found):
        adjusted = difference["p_holm"]
        cells.append(Cell(text=spell_p(adjusted), exact=adjusted))
    return tuple(cells)


def _p_heads(found: Contrasts) -> tuple[str, ...]:
    return ("p", "p (Holm)") if _adjusted(found) else ("p",)


def _adjusted(found: Contrasts) -> bool:
    return len(found["comparisons"]) > 1


def _has_seeds(one: Contrasts) -> bool:
    return any("over_seeds" in difference for difference in one["metrics"].values())


def _seeds(found: Contrasts, name: str) -> int:
    return next(iter(found["arms"][name]["metrics"].values()))["seeds"]


def _defined(one: Contrasts, metric: str) -> bool:
    return one["metrics"].get(metric, {}).get("value") is not None


def _equals(p: float | None) -> str:
    text = spell_p(p)
    return text if text.startswith("<") else f"= {text}"
