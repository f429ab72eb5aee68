"""What decisions at a threshold are worth, each class against the rest."""

from collections.abc import Mapping

import numpy as np

from jaxmed.evaluation.intervals.bootstrap import Units
from jaxmed.evaluation.intervals.estimate import Interval, Key, Measure, Undefined
from jaxmed.evaluation.intervals.proportions import class_intervals
from jaxmed.evaluation.metrics.counts import (
    ClassCounts,
    ratio,
    scores,
    why_undefined,
)
from jaxmed.evaluation.predictions import Predictions

METRICS = ("accuracy", "sensitivity", "specificity", "ppv", "npv", "lr_positive")
METRICS = (*METRICS, "lr_negative", "f1", "mcc", "kappa", "youden_j")


class ThresholdDecisions(Measure):
    """The metrics of `prob >= threshold`.

    Keys are ("at_threshold", metric) in binary tasks, else ("at_threshold", class,
    metric).

    Args:
        predictions: n images.
        thresholds: see `choose_thresholds`.
        prevalence: share of positives, in (0, 1), to tell the predictive values at;
            None to tell them at that of the images only.
    """

    def __init__(
        self,
        predictions: Predictions,
        thresholds: dict[str, float | Undefined],
        prevalence: float | None = None,
    ):
        binary = predictions.task == "binary"
        self.images = len(predictions.ids)
        self._prevalence = prevalence
        self._thresholds = list(thresholds.values())
        self._names = list(thresholds)
        self._prefixes: list[Key] = [
            ("at_threshold",) if binary else ("at_threshold", name)
            for name in thresholds
        ]
        self._places = {prefix: i for i, prefix in enumerate(self._prefixes)}
        place = {name: i for i, name in enumerate(predictions.class_names)}
        columns = [place[name] for name in thresholds]
        cuts = [np.inf if isinstance(t, Undefined) else t for t in self._thresholds]
        self._counts = ClassCounts(
            predictions.truth[:, columns],
            predictions.probs[:, columns] >= np.array(cuts),
            predictions.known[:, columns],
        )
        self._whole = self._counts(np.ones((self.images, 1)))

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        """Computes the metrics of resamples, see `Measure`."""
        found = scores(self._counts(counts))
        samples = {metric: found[metric] for metric in METRICS}
        if self._prevalence is not None:
            ppv, npv = predictive_values(
                found["sensitivity"], found["specificity"], self._prevalence
            )
            samples |= {"ppv_at_prevalence": ppv, "npv_at_prevalence": npv}
        for i, threshold in enumerate(self._thresholds):
            if isinstance(threshold, Undefined):
                for sample in samples.values():
                    sample[i] = np.nan
        return {
            (*prefix, name): sample[i]
            for i, prefix in enumerate(self._prefixes)
            for name, sample in samples.items()
        }

    def reason(self, key: Key) -> Undefined:
        """Says why a metric of the split itself is NaN."""
        *prefix, metric = key
        i = self._places[tuple(prefix)]
        threshold = self._thresholds[i]
        if isinstance(threshold, Undefined):
            return Undefined(f"no threshold, as in val: {threshold.reason}")
        true, n = self._whole.true[i, 0], self._whole.n[i, 0]
        if metric.endswith("_at_prevalence") and 0 < true < n:
            metric = metric.removesuffix("_at_prevalence")
        return why_undefined(metric, true, n)

    def intervals(
        self, units: Units, samples: Mapping[Key, np.ndarray]
    ) -> dict[Key, Interval | Undefined]:
        """Computes the intervals by formula, see `class_intervals` and `Measure`."""
        tallies = self._counts.by_unit(units)
        by_class = class_intervals(tallies, units, self._prevalence)
        intervals: dict[Key, Interval | Undefined] = {}
        rows = zip(
            self._prefixes, by_class, tallies.scarce(self._names, units), strict=True
        )
        for prefix, found, scarce in rows:
            intervals |= {(*prefix, name): one for name, one in found.items()}
            if scarce:
                intervals |= {(*prefix, name): scarce for name in ("mcc", "kappa")}
        return intervals


def predictive_values(
    sensitivity: np.ndarray, specificity: np.ndarray, prevalence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Computes PPV and NPV where another share is positive, by Bayes' theorem.

    Altman and Bland, "Diagnostic tests 2: predictive values", BMJ 1994.

    Args:
        sensitivity, specificity: in [0, 1], of one shape; they are taken to be the
            same at any prevalence.
        prevalence: share of positives, in (0, 1).

    Returns:
        NaN where nothing, or everything, is said to be positive.
    """
    found = sensitivity * prevalence
    cleared = specificity * (1 - prevalence)
    ppv = ratio(found, found + (1 - specificity) * (1 - prevalence))
    npv = ratio(cleared, cleared + (1 - sensitivity) * prevalence)
    return ppv, npv
