"""Threshold explorer: the scores behind the page's sliders.

A decision at a threshold, one class against the rest, depends on nothing but the scores
of the class's own images and those of the others. The page holds both, to the last bit,
and counts in them.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from jaxmed.runs.record import Arm, RunRecord

EMBEDDED = 3_000_000
"""Characters of scores in a page at most, so that it stays below 10 MB."""
WITHOUT = 0.5
"""Where the slider starts if no threshold could be chosen on val."""
METRICS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "accuracy",
    "f1": "F1",
}


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """One class of a run against the rest, on the test split.

    Attributes:
        name: of the class.
        threshold: chosen on val; None if none could be.
        reason: why none could be, or "".
        positives: float64, rising, the scores of the images of the class.
        negatives: those of the others. Images whose label is not known are in neither.
    """

    name: str
    threshold: float | None
    reason: str
    positives: np.ndarray
    negatives: np.ndarray

    def start(self) -> float:
        """Return the threshold that the slider starts at."""
        return WITHOUT if self.threshold is None else self.threshold


def class_scores(run: RunRecord) -> tuple[ClassScores, ...]:
    """Return the scores of a run's positive class, or of all classes if not binary."""
    test, choice = run.predictions["test"], run.metrics["threshold"]
    binary = run.task == "binary"
    value, reason = choice.get("value"), choice.get("reason") or ""
    classes = []
    for i, name in list(enumerate(run.class_names))[1 if binary else 0 :]:
        known, truth, scores = test.known[:, i], test.truth[:, i], test.probs[:, i]
        classes.append(
            ClassScores(
                name=name,
                threshold=value if binary else (value or {}).get(name),
                reason=reason if binary else (reason or {}).get(name, ""),
                positives=np.sort(scores[known & truth]),
                negatives=np.sort(scores[known & ~truth]),
            )
        )
    return tuple(classes)


def decision_counts(scores: ClassScores, threshold: float) -> dict[str, float | None]:
    """Count the decisions `score >= threshold` and compute their metrics.

    Returns:
        "tp", "fp", "fn", "tn", and the `METRICS`, None where the denominator is zero.
    """
    tp = len(scores.positives) - int(np.searchsorted(scores.positives, threshold))
    fp = len(scores.negatives) - int(np.searchsorted(scores.negatives, threshold))
    fn, tn = len(scores.positives) - tp, len(scores.negatives) - fp
    return {
        "tp": tp, "fp": fp, "fn": fn, "tn": tn,
        "sensitivity": _share(tp, tp + fn),
        "specificity": _share(tn, tn + fp),
        "ppv": _share(tp, tp + fp),
        "npv": _share(tn, tn + fn),
        "accuracy": _share(tp + tn, tp + fp + fn + tn),
        "f1": _share(2 * tp, 2 * tp + fp + fn),
    }  # fmt: skip


def explorer_context(arms: Sequence[Arm]) -> dict[str, Any] | None:
    """Return the template's values: panels, scores as JSON, and omitted runs.

    Lowest seeds come first; what is more than `EMBEDDED` characters is left out. None
    if nothing fits.
    """
    panels: dict[int, dict[str, Any]] = {}
    missing, room = [], EMBEDDED
    for rank, number in sorted(
        (rank, number)
        for number, arm in enumerate(arms)
        for rank in range(len(arm.runs))
    ):
        run = arms[number].runs[rank]
        classes = class_scores(run)
        embedded = {"seed": run.seed, "classes": [_embed(scores) for scores in classes]}
        room -= len(json.dumps(embedded))
        if room < 0:
            missing.append(f"{arms[number].name}, seed {run.seed}")
            continue
        first = classes[0]
        panel = {
            "number": number,
            "first": first,
            "now": decision_counts(first, first.start()),
        }
        panels.setdefault(number, panel | {"runs": []})["runs"].append(embedded)
    if not panels:
        return None
    return {
        "panels": list(panels.values()),
        "json": _json([panel["runs"] for panel in panels.values()]),
        "metrics": METRICS,
        "missing": missing,
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _embed(scores: ClassScores) -> dict[str, Any]:
    return {
        "name": scores.name,
        "threshold": scores.threshold,
        "reason": scores.reason,
        "positives": _packed(scores.positives),
        "negatives": _packed(scores.negatives),
    }


def _packed(scores: np.ndarray) -> dict[str, str]:
    """Encode scores as base64 of little-endian floats, float32 where that is exact."""
    single = scores.astype("<f4")
    exact = (single == scores).all()
    data = (single if exact else scores.astype("<f8")).tobytes()
    dtype = "float32" if exact else "float64"
    return {dtype: base64.b64encode(data).decode("ascii")}


def _json(content: Any) -> Markup:
    """Encode JSON for a script element, which no content can end."""
    return Markup(json.dumps(content).replace("<", "\\u003c"))
