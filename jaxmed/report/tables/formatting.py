"""Tables and cells as plain values, and the formatting of numbers in them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jaxmed.evaluation.metrics.registry import METRICS
from jaxmed.report.figures.style import format_number, format_rate

TITLES = {name: metric.title for name, metric in METRICS.items()} | {
    "ppv": "PPV",
    "npv": "NPV",
    "youden_j": "Youden's J",
    "ece": "ECE",
    "ece_equal_mass": "ECE, bins of equal mass",
    "ace": "adaptive calibration error",
    "lr_positive": "LR+",
    "lr_negative": "LR−",
    "ppv_at_prevalence": "PPV at the given prevalence",
    "npv_at_prevalence": "NPV at the given prevalence",
    "intercept": "calibration intercept",
    "slope": "calibration slope",
    "brier_skill": "Brier skill score",
    "oe_ratio": "O:E ratio",
}
"""What a metric is called where atomic_write "_" by a space is not enough."""
SCALINGS = {"vector": "vector scaling", "platt": "Platt scaling"}
"""What scales the logits where it is not one temperature."""
AT_HALF = "_at_half"
"""The ending of a metric of what is decided at 0.5, where a threshold was chosen."""
INTERVALS = (
    "[ ]: 95 % interval over test images, for these models; retrained [ ]: 95 % "
    "interval over test images and seeds, for retrained models."
)
"""Which of two intervals is which, below a table that has both."""
STABILITY = "A threshold's interval is over bootstrap resamples of val."


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: what is read, and the exact number behind it.

    Attributes:
        text: rounded for reading.
        exact: the number as metrics.json has it; None for words and missing numbers.
        range: the interval, "[0.964, 0.986]", or what else is said below it.
        again: the interval for retrained models, "retrained [0.951, 0.990]".
        note: why a number is missing.
        words: the text may wrap and is aligned left.
    """

    text: str
    exact: float | None = None
    range: str = ""
    again: str = ""
    note: str = ""
    words: bool = False

    @property
    def line(self) -> str:
        """Join the number and its intervals: "0.97 [0.96, 0.98]"."""
        return " ".join(filter(None, (self.text, self.range, self.again)))


@dataclass(frozen=True, kw_only=True)
class Table:
    """A caption, a head and rows of cells; the first cell of a row names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


def annotated(table: Table, *notes: str) -> Table:
    """Return the table with notes before its own."""
    return replace(table, note=" ".join(filter(None, (*notes, table.note))))


def p_cell(test: Mapping[str, Any]) -> Cell:
    """Return a cell of the p value, adjusted if it has been, or why there is none."""
    p = test.get("p_holm", test.get("p"))
    reason = "" if p is not None else str(test.get("reason", ""))
    return Cell(text=format_p(p), exact=p, note=reason)


def format_p(p: float | None) -> str:
    """Format a p value: "0.031", "< 0.001", or a dash for none."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def metric_title(name: str) -> str:
    """Return a metric's title: "balanced accuracy" of "balanced_accuracy"."""
    for ending, words in (AT_HALF, " at 0.5"), ("_calibrated", ", after scaling"):
        if name.endswith(ending):
            return metric_title(name.removesuffix(ending)) + words
    return TITLES.get(name, name.replace("_", " "))


def footnotes(rows: Iterable[Sequence[Cell]]) -> str:
    """Explain the stars of a table's numbers, each reason once."""
    noted = (c.note for row in rows for c in row if c.text.endswith("*") and c.note)
    return " ".join(f"* {note[0].upper()}{note[1:]}." for note in dict.fromkeys(noted))


def estimate_names(metrics: Mapping[str, Any]) -> list[str]:
    """List the names of estimates ({"value", "ci_low", ...}) in `metrics`."""
    return [k for k, v in metrics.items() if isinstance(v, dict) and "value" in v]


def word(text: object) -> Cell:
    """Return a cell of words."""
    return Cell(text=str(text), words=True)


def number(value: float | None, digits: int = 3, sign: bool = False) -> Cell:
    """Return a cell of one number without an interval."""
    return Cell(text=format_number(value, digits, sign), exact=value)


def count(value: int | None) -> Cell:
    """Return a cell of a whole number: 11,689,512."""
    return Cell(text="–" if value is None else f"{value:,}", exact=value)


def rate(value: float | None) -> Cell:
    """Return a cell of a learning rate: 1e-5."""
    return Cell(text=format_rate(value), exact=value)


def estimate(entry: Mapping[str, Any] | float | None, sign: bool = False) -> Cell:
    """Return a cell of an estimate: its value and, smaller, its 95 % intervals.

    A number that is to be read with care has a "*" behind it, and the reason as note.
    """
    if not isinstance(entry, Mapping):
        return number(entry, sign=sign)
    value = entry.get("value")
    if value is None:
        return Cell(text="–", note=str(entry.get("reason", "undefined")))
    again = interval(entry.get("another_training") or {}, sign=sign)
    ends, warning = (
        interval(entry, sign=sign),
        str(entry.get("note", "")),
    )
    if not ends and not warning:
        warning = str(entry.get("reason", ""))
    return Cell(
        text=format_number(value, sign=sign) + "*" * bool(warning),
        exact=value,
        range=ends,
        again=f"retrained {again}" if again else "",
        note=warning,
    )


def interval(entry: Mapping[str, Any], sign: bool = False) -> str:
    """Format an interval: "[0.964, 0.986]", or "" where there is none."""
    low, high = entry.get("ci_low"), entry.get("ci_high")
    if low is None or high is None:
        return ""
    return f"[{format_number(low, sign=sign)}, {format_number(high, sign=sign)}]"


def estimate_table(
    caption: str, rows: Mapping[str, Mapping[str, Any]], first: str
) -> Table:
    """Tabulate estimates: a row per key, a column per estimate, support last.

    Args:
        caption: the table's caption.
        rows: estimates by row name, such as metrics["per_class"]["test"].
        first: the head of the first column.
    """
    names = list(dict.fromkeys(n for row in rows.values() for n in estimate_names(row)))
    support = any("support" in row for row in rows.values())
    body = []
    for name, row in rows.items():
        cells = [word(name), *(estimate(row.get(metric)) for metric in names)]
        body.append((*cells, count(row.get("support"))) if support else tuple(cells))
    head = (first, *map(metric_title, names), *(("support",) if support else ()))
    return Table(caption=caption, head=head, rows=tuple(body), note=footnotes(body))


def transpose(table: Table, first: str) -> Table:
    """Transpose a table, so that its arms stand side by side."""
    head = (first, *(row[0].text for row in table.rows))
    columns = zip(*(row[1:] for row in table.rows), strict=True)
    rows = ((word(n), *c) for n, c in zip(table.head[1:], columns, strict=True))
    return Table(caption=table.caption, head=head, rows=tuple(rows), note=table.note)
