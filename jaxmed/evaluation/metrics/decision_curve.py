"""Decision curves (net benefit), and risk-coverage curves of selective prediction."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, Units, units_of
from jaxmed.evaluation.intervals.estimate import (
    Estimate,
    Interval,
    Key,
    Measure,
    Undefined,
    estimate,
)
from jaxmed.evaluation.intervals.proportions import shares
from jaxmed.evaluation.metrics.counts import ratio, scarcity
from jaxmed.evaluation.metrics.probability_scores import NO_LABEL
from jaxmed.evaluation.predictions import Predictions

THRESHOLDS = tuple(i / 100 for i in range(1, 100))
COVERAGES = tuple(i / 20 for i in range(1, 21))
# Coverages closer than this are the same.
TIE = 1e-12


def decision_curve(
    predictions: Predictions,
    *,
    class_name: str | None = None,
    probs: np.ndarray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute the net benefit of acting where `prob >= threshold`.

    Vickers and Elkin, "Decision curve analysis: a novel method for evaluating
    prediction models", Medical Decision Making 2006: true positives less false
    positives weighted with the threshold's odds, per image. A threshold is how sure
    one wants to be before acting, so probabilities should be calibrated ones.

    Args:
        predictions: labels, and probabilities unless given.
        class_name: against the rest; by default the positive one of a binary task.
        probs: (n, k), others in their place, such as calibrated ones.
        thresholds: in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        "thresholds"; and the net benefit at each of them of the "model" and of acting
        on "all", and how much the model's is "over_all", as {"value", "ci_low",
        "ci_high"}. That of acting on none is 0.

    Raises:
        InputError: an unknown class, none given where there is no positive one, or a
            threshold out of range.

    Examples:
        >>> curve = decision_curve(
        ...     Predictions(
        ...         split="test",
        ...         ids=tuple(map(str, range(20))),
        ...         labels=np.arange(20) % 2,
        ...         probs=np.full((20, 2), 0.5),
        ...         class_names=("normal", "pneumonia"),
        ...         task="binary",
        ...     ),
        ...     thresholds=(0.2,),
        ...     resamples=100,
        ... )
        >>> round(curve["all"][0]["value"], 3)  # 0.5 - 0.5 * 0.2 / 0.8
        0.375
    """
    if class_name is None and predictions.task == "binary":
        class_name = predictions.class_names[1]
    if class_name is None:
        raise InputError(
            f"A {predictions.task} task has no positive class; name the class whose "
            "decision curve is wanted."
        )
    if class_name not in predictions.class_names:
        raise unknown("class", class_name, predictions.class_names)
    wrong = [t for t in thresholds if not 0 < t < 1]
    if wrong:
        raise InputError(
            f"Thresholds of a decision curve must be in (0, 1), got {wrong[0]}."
        )
    column = predictions.class_names.index(class_name)
    measure = NetBenefit(predictions, probs, column, np.array(thresholds))
    estimates = _estimate(predictions, measure, resamples, seed)
    curves = {
        name: [estimates[name, str(i)] for i in range(len(thresholds))]
        for name in ("model", "all", "over_all")
    }
    return {"thresholds": list(thresholds)} | curves


def risk_coverage(
    predictions: Predictions,
    *,
    probs: np.ndarray | None = None,
    coverages: Sequence[float] = COVERAGES,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute how often the model is wrong if it abstains where it is least sure.

    Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", NeurIPS
    2017. Sureness is the probability of the most probable class; in multilabel tasks
    that of each label's yes or no, all known (image, label) pairs in one ranking. The
    risk at a coverage is the share of errors among the surest, equally sure ones all
    together; AURC is the mean of the risk over every one's sureness as the limit.

    Args:
        predictions: labels, and probabilities unless given.
        probs: (n, k), others in their place, such as calibrated ones.
        coverages: shares that are decided, in (0, 1].
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        "aurc" as {"value", "ci_low", "ci_high"}; "coverages", and "risk" at each.

    Raises:
        InputError: a coverage is out of range.
    """
    wrong = [c for c in coverages if not 0 < c <= 1]
    if wrong:
        raise InputError(f"Coverages must be in (0, 1], got {wrong[0]}.")
    measure = _Risk(predictions, probs, np.array(coverages))
    estimates = _estimate(predictions, measure, resamples, seed)
    return {
        "aurc": estimates[("aurc",)],
        "coverages": list(coverages),
        "risk": [estimates["risk", str(i)] for i in range(len(coverages))],
    }


def _estimate(predictions, measure, resamples, seed) -> dict[Key, Estimate]:
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    return estimate([measure], units_of(predictions), bootstrap)


class NetBenefit(Measure):
    def __init__(self, predictions, probs, column: int, thresholds: np.ndarray):
        probs = predictions.probs if probs is None else probs
        self.images = len(predictions.ids)
        self._odds = (thresholds / (1 - thresholds))[:, None]
        known = predictions.known[:, column]
        truth = predictions.truth[:, column]
        self._name = predictions.class_names[column]
        self._kinds = np.stack([truth, known & ~truth], axis=1)
        decided = (probs[:, column] >= thresholds[:, None]) & known
        parts = [decided & truth, decided & ~truth, [truth], [known]]
        self._counts = sparse.csr_array(np.concatenate(parts).astype(np.float64))

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        sums = np.asarray(self._counts @ counts)
        *_, positives, n = sums
        hits, alarms = np.split(sums[:-2], 2)
        curves = {
            "model": ratio(hits - self._odds * alarms, n),
            "all": ratio(positives - self._odds * (n - positives), n),
        }
        curves["over_all"] = curves["model"] - curves["all"]
        return {
            (name, str(i)): sample
            for name, curve in curves.items()
            for i, sample in enumerate(curve)
        }

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        having, lacking = units.having(self._kinds)
        scarce = scarcity(self._name, having, lacking, units)
        parts = units.sums(self._kinds).T
        hits, n = parts[:1], parts.sum(axis=0, keepdims=True)
        (positives,) = shares(hits, n, clustered=units.cluster is not None)
        intervals: dict[Key, Interval | Undefined] = {}
        for i, (odds,) in enumerate(self._odds):
            # All are acted on: a linear function of the share of positives.
            low, high = (p - odds * (1 - p) for p in positives.interval[:2])
            intervals["all", str(i)] = Interval(low, high, positives.method)
            if scarce:
                intervals["model", str(i)] = scarce
        return intervals

    def reason(self, key: Key) -> Undefined:
        return NO_LABEL


class _Risk(Measure):
    def __init__(self, predictions, probs, coverages: np.ndarray):
        probs = predictions.probs if probs is None else probs
        self.images = len(predictions.ids)
        self._coverages = coverages
        # A multilabel image has several decisions, which are not independent.
        self._several = predictions.task == "multilabel"
        if self._several:
            images, labels = np.nonzero(predictions.known)
            yes = probs[images, labels]
            sureness = np.maximum(yes, 1 - yes)
            wrong = (yes >= 0.5) != predictions.truth[images, labels]
        else:
            images = np.arange(self.images)
            sureness = probs.max(axis=1)
            wrong = probs.argmax(axis=1) != predictions.labels
        levels = np.unique(sureness)[::-1]
        level = np.searchsorted(-levels, -sureness)
        self._at, self._level, self._wrong = images, level, wrong
        rows = np.append(level, len(levels) + level[wrong])
        at = rows, np.append(images, images[wrong])
        shape = 2 * len(levels), self.images
        self._steps = sparse.csr_array((np.ones(len(rows)), at), shape=shape)

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        clustered = self._several or units.cluster is not None
        sums = np.bincount(self._level).cumsum()
        intervals: dict[Key, Interval | Undefined] = {}
        for i, coverage in enumerate(self._coverages if len(sums) else ()):
            last = np.argmax(sums >= (coverage - TIE) * len(self._level))
            decided = self._level <= last
            parts = [
                np.bincount(self._at[taken], minlength=self.images)
                for taken in (decided & self._wrong, decided)
            ]
            hits, trials = units.sums(np.stack(parts, axis=1)).T
            (risk,) = shares(hits[None], trials[None], clustered=clustered)
            intervals["risk", str(i)] = risk.interval
        return intervals

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        decided, wrong = np.split(np.asarray(self._steps @ counts), 2)
        sums = decided.cumsum(axis=0)
        risk = ratio(wrong.cumsum(axis=0), sums)
        n = decided.sum(axis=0)
        # Before the first that is drawn there is no risk, and nothing to weight.
        aurc = ratio(np.where(decided > 0, decided * risk, 0).sum(axis=0), n)
        samples: dict[Key, np.ndarray] = {("aurc",): aurc}
        for i, coverage in enumerate(self._coverages):
            if not len(sums):
                samples["risk", str(i)] = aurc
                continue
            first = np.argmax(sums >= (coverage - TIE) * n, axis=0)
            samples["risk", str(i)] = risk[first, np.arange(len(n))]
        return samples

    def reason(self, key: Key) -> Undefined:
        return NO_LABEL
