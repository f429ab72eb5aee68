"""Gallery of test images with their saliency maps, filtered by class and outcome."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmed.explain.methods import METHODS
from jaxmed.report.figures.style import format_number
from jaxmed.report.page import EmbeddedImage, embed_cam
from jaxmed.runs.record import Arm, Cam, RunRecord

COMPLETE = 0.05
"""The largest completeness gap of sound integrated gradients (Sundararajan et al., ICML
2017, section 5)."""
EMBEDDED = 4_000_000
"""Characters of pictures in a page at most, so that it stays below 10 MB; one of 224
pixels takes 10,000 to 40,000."""
KINDS = {
    "loss": "highest loss",
    "uncertain": "least certain",
    "random": "random sample",
}
OUTCOMES = {
    "TP": "true positive",
    "FP": "false positive",
    "TN": "true negative",
    "FN": "false negative",
}


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of the gallery.

    Attributes:
        shot: the image, and beside it the map.
        cam: what is known of it.
        classes: its true classes.
        kinds: why it was chosen, in the words of `KINDS`.
        outcome: one of `OUTCOMES` in binary tasks, by the threshold chosen on val;
            else "right" or "wrong".
        right: the decision is right.
        probability: in words, "P(pneumonia) = 0.931".
        gap: how complete integrated gradients are, in words; else empty.
    """

    shot: EmbeddedImage
    cam: Cam
    classes: tuple[str, ...]
    kinds: tuple[str, ...]
    outcome: str
    right: bool
    probability: str
    gap: str

    @property
    def filters(self) -> dict[str, str]:
        """Return the values that the page's filters compare, as JSON, by name."""
        values = {
            "kinds": self.kinds,
            "classes": self.classes,
            "outcome": (self.outcome,),
        }
        return {name: json.dumps(value) for name, value in values.items()}


def gallery_items(run: RunRecord, room: int) -> tuple[Item, ...]:
    """Return as many maps of a run as fit, the highest loss first.

    Args:
        run: the kinds of its maps take turns, so that of each kind some are shown.
        room: in characters of the page.

    Raises:
        InputError: a file is not an image.
    """
    rows = {name: row for row, name in enumerate(run.predictions["test"].ids)}
    items = []
    for cam in run.cams:
        item = _item(run, cam, rows.get(cam.id))
        room -= len(item.shot.src)
        if room < 0:
            break
        items.append(item)
    rank = {kind: index for index, kind in enumerate(KINDS.values())}
    items.sort(key=lambda item: min((rank.get(k, 9) for k in item.kinds), default=9))
    return tuple(items)


def gallery_filters(
    arms: Sequence[dict[str, Any]], first: str
) -> dict[str, Any] | None:
    """Return the options of each filter that occur; None without images.

    Args:
        arms: sections with their "name" and "gallery".
        first: the arm whose images are shown before another is asked for.
    """
    items = [item for arm in arms for item in arm["gallery"]]
    if not items:
        return None
    outcomes = {item.outcome for item in items}
    known = [*OUTCOMES, "wrong", "right"]
    shown = [arm["name"] for arm in arms if arm["gallery"]]
    return {
        "arms": shown,
        "first": first if first in shown else "",
        "kinds": [k for k in KINDS.values() if any(k in item.kinds for item in items)],
        "classes": list(dict.fromkeys(c for item in items for c in item.classes)),
        "outcomes": [
            (
                outcome,
                f"{outcome}, {OUTCOMES[outcome]}" if outcome in OUTCOMES else outcome,
            )
            for outcome in known
            if outcome in outcomes
        ],
        "count": len(items),
    }


def _item(run: RunRecord, cam: Cam, row: int | None) -> Item:
    classes: tuple[str, ...] = (cam.true,)
    name, probability = cam.predicted, cam.probability
    outcome, right = "right" if cam.correct else "wrong", cam.correct
    threshold = run.metrics["threshold"].get("value")
    if row is not None:
        test = run.predictions["test"]
        truth = test.truth[row]
        classes = tuple(run.class_names[c] for c in np.flatnonzero(truth)) or ("none",)
        if run.task == "binary" and threshold is not None:
            name, probability = run.class_names[1], float(test.probs[row, 1])
            positive = probability >= threshold
            right = bool(positive == truth[1])
            outcome = f"{'T' if right else 'F'}{'P' if positive else 'N'}"
    return Item(
        shot=embed_cam(cam),
        cam=cam,
        classes=classes,
        kinds=tuple(KINDS.get(kind, kind) for kind in cam.kinds),
        outcome=outcome,
        right=right,
        probability=f"P({name}) = {format_number(probability)}",
        gap=_format_gap(cam),
    )


def _format_gap(cam: Cam) -> str:
    if cam.gap is None:
        return ""
    remark = " (large: increase the steps)" if cam.gap > COMPLETE else ""
    return f"completeness gap {cam.gap:.1%}{remark}"


def describe_gallery(arms: Sequence[Arm]) -> str:
    """Describe the images and maps, and how outcomes are decided."""
    run = arms[0].first
    used = sorted({cam.method for arm in arms for cam in arm.first.cams} - {""})
    methods = ", ".join(METHODS[name].title for name in used)
    text = (
        "Test images with the highest loss, with the least certain predictions, and a "
        "random sample; only the random sample is representative. Hover over an image, "
        "or move to it with the Tab key, to see the saliency map of the class named "
        f"below it{f' ({methods})' if methods else ''}; click, tap or press Space to "
        "keep the map visible. A map shows where evidence is located, not why it "
        "matters."
    )
    gaps = [c.gap for arm in arms for c in arm.first.cams if c.gap is not None]
    if gaps:
        text += (
            " The completeness gap of integrated gradients is how far the sum of a map "
            "is from the difference between the logits of image and baseline, which it "
            f"should equal; it should be within {COMPLETE:.0%}, and is at most "
            f"{max(gaps):.1%} here."
        )
    if run.task == "binary":
        text += " Outcomes are those at the threshold chosen on val."
    elif run.task == "multilabel":
        text += " Right or wrong is the most probable label."
    return text
