"""Sentences on external validation, and on what an internal test cannot tell."""

from collections.abc import Mapping
from typing import Any

from jaxmed.report.tables.external_validation import Metrics, pick
from jaxmed.report.tables.formatting import estimate, metric_title

CANNOT_TELL = (
    "An internal test, on images of the source that the model was trained on, cannot "
    "tell how it does at another hospital, with another device, in another year or "
    "with another mix of patients. AUROC often falls there, and sensitivity, "
    "specificity and calibration more: a threshold chosen on one source need not fit "
    "another. That no image is out of distribution does not show that it does."
)
ADVICE = "`validate RUN SOURCE` measures it on labeled images of another source."


def validation_headline(metrics: Metrics, internal: Metrics) -> str:
    """Write the result in a sentence: main metric, difference, decisions."""
    name = metrics["validation"]["name"]
    metric = "auroc" if pick(metrics, "test", "auroc") else "accuracy"
    text = (
        f"On {metrics['test']['n']:,} images of {name}, the {metric_title(metric)} is "
    )
    text += estimate(pick(metrics, "test", metric)).line
    text += f", {_difference(metrics['difference'].get('test', {}).get(metric))}"
    if metrics["task"] != "binary":
        return f"{text}."
    at = [
        f"{part} {estimate(pick(metrics, 'test_at_threshold', part)).line} (internal "
        f"{estimate(pick(internal, 'test_at_threshold', part)).text})"
        for part in ("sensitivity", "specificity")
    ]
    return f"{text}. At the threshold chosen on val: {' and '.join(at)}."


def _difference(difference: Mapping[str, Any] | None) -> str:
    """Format a difference from the internal test, and whether it is clear."""
    value = (difference or {}).get("value")
    if difference is None or value is None:
        return "and its difference from the internal test is not defined"
    side = "above" if value > 0 else "below"
    shown = estimate(difference, sign=True).line
    low, high = difference.get("ci_low"), difference.get("ci_high")
    if low is None or high is None or low <= 0 <= high:
        return f"{shown} from the internal test, which may be chance"
    return f"{shown} from the internal test, clearly {side} it"


def ood_sentence(metrics: Metrics) -> str:
    """Say how many images were flagged, and whether the score tells the sets apart."""
    ood = metrics["validation"].get("out_of_distribution")
    if not ood:
        return "The run has no out-of-distribution detector."
    return (
        f"{estimate(ood['share']).line} of the images are flagged as out of "
        f"distribution (of the run's own val it is 0.010). By the score alone, an "
        "external image is farther from the training images than one of val with a "
        f"probability of {estimate(ood['auroc_against_val']).line}; 0.5 would mean "
        "that the score does not tell the sets apart."
    )


def ensemble_sentences(metrics: Metrics, internal: Metrics) -> list[str]:
    """Say how much the members of an ensemble gain; nothing for a single run."""
    inner, outer = internal.get("ensemble"), metrics["validation"].get("ensemble")
    if not inner or not outer:
        return []
    sentences = [
        f"An ensemble of {len(inner['members'])} runs, whose probabilities are "
        "averaged. Maps are those of the first."
    ]
    tests = ("the external images", outer), ("the internal test", inner)
    for where, result in tests:
        if "reason" in result:
            sentences.append(f"On {where} its gain is not known: {result['reason']}.")
            continue
        parts = [
            f"{metric_title(name)} {estimate(result['gain'][name], sign=True).line}"
            for name in ("auroc", "accuracy", "log_loss", "brier")
            if name in result["gain"]
        ]
        sentences.append(
            f"On {where}, the ensemble less a single run: {'; '.join(parts)}."
        )
    return sentences
