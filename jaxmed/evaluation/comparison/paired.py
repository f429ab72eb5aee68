"""Paired comparison: an arm over its seeds, and the difference of two arms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.comparison.alignment import (
    ScoredPredictions,
    align,
    apply_thresholds,
)
from jaxmed.evaluation.intervals.auc import delong_test
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import (
    Estimate,
    Key,
    Measure,
    Undefined,
    as_estimate,
    resample,
)
from jaxmed.evaluation.intervals.significance import (
    another_training,
    bootstrap_p,
    mcnemar,
    wald,
)
from jaxmed.evaluation.metrics.classification import Decisions
from jaxmed.evaluation.metrics.decision_curve import NetBenefit
from jaxmed.evaluation.metrics.registry import METRICS, limits_of
from jaxmed.evaluation.predictions import Predictions

# Why the mean of several seeds has a value and no interval over images.
ALIKE = "alike in every resample of the images"
NET_BENEFIT = "net_benefit"


def paired_difference(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    metric: str = "auroc",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Compute how much better arm `a` is than arm `b`, with a 95 % interval.

    Decisions are those of `default_decisions`; see `Paired.difference`.

    Args:
        a: the predictions of one arm, one per seed.
        b: those of the other; the number of seeds may differ. All are of the same
            images, in any order.
        metric: one of `METRICS`.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        See `Paired.difference`.

    Raises:
        InputError: an unknown metric, an arm without predictions, or predictions of
            different images, labels, classes or tasks.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.integers(0, 2, 100)
        >>> p = 1 / (1 + np.exp(-3 * (labels - 0.5) - rng.normal(size=100)))
        >>> from jaxmed.evaluation import Predictions
        >>> test = Predictions(
        ...     split="test",
        ...     ids=tuple(map(str, range(100))),
        ...     labels=labels,
        ...     probs=np.stack([1 - p, p], axis=1),
        ...     class_names=("normal", "pneumonia"),
        ...     task="binary",
        ... )
        >>> from dataclasses import replace
        >>> worse = 0.5 + 0.2 * (p - 0.5) + 0.1 * rng.normal(size=100).clip(-3, 3)
        >>> other = replace(test, probs=np.stack([1 - worse, worse], axis=1))
        >>> difference = paired_difference([test], [other], "auroc", resamples=200)
        >>> difference["test"], round(difference["value"], 2)
        ('delong', 0.24)
    """
    arms = {
        "a": [apply_thresholds(predictions) for predictions in a],
        "b": [apply_thresholds(predictions) for predictions in b],
    }
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    return Paired(arms, [(metric,)], bootstrap).difference("a", "b", (metric,))


def arm_summary(
    seeds: Sequence[Predictions],
    metric: str = "auroc",
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compute an arm's mean over seeds, its interval and its spread.

    Args:
        seeds: the arm's predictions on the same images, one per seed.
        metric: one of `METRICS`.
        resamples: of the bootstrap over images.
        seed: of the bootstrap.

    Returns:
        See `Paired.summary`.

    Raises:
        InputError: as in `paired_difference`.
    """
    bootstrap = Bootstrap(resamples=resamples, seed=seed)
    arms = {"arm": [apply_thresholds(predictions) for predictions in seeds]}
    return Paired(arms, [(metric,)], bootstrap).summary("arm", (metric,))


class Paired:
    """Arms measured on the same images, and on the same resamples of them.

    Args:
        arms: by name, their runs, one per seed; in any order of images and classes.
        keys: the metrics wanted: (metric,) with one of `METRICS`; ("per_class", name,
            metric) as `Ranking` and `Decisions` have them; or ("net_benefit",
            threshold) of the positive class of a binary task, such as "0.1".
        bootstrap: how to resample.

    Attributes:
        first: the first run's predictions, whose order of images all share.
        units: what is drawn.

    Raises:
        InputError: an unknown metric, or one that the task lacks; an arm without runs;
            runs of different images, labels, classes or tasks.
    """

    def __init__(
        self,
        arms: Mapping[str, Sequence[ScoredPredictions]],
        keys: Sequence[Key],
        bootstrap: Bootstrap,
    ):
        if not all(arms.values()):
            raise InputError(
                "An arm has no predictions; a comparison needs one per seed."
            )
        for key in keys:
            if len(key) == 1 and key[0] not in METRICS:
                raise unknown("metric", key[0], METRICS)
        runs = align([run for seeds in arms.values() for run in seeds])
        self.first = runs[0].predictions
        self.units = units_of(self.first)
        self._runs, self._runs_of, start = runs, {}, 0
        for name, seeds in arms.items():
            self._runs_of[name] = range(start, start + len(seeds))
            start += len(seeds)
        measures = [
            _OfRun(i, measure, set(keys))
            for i, run in enumerate(runs)
            for measure in _measures(run, keys)
        ]
        self._values = {
            k: v for measure in measures for k, v in measure.values().items()
        }
        for key in keys:
            if ("0", *key) not in self._values:
                raise InputError(f"A {self.first.task} task has no {key[-1]}.")
        description = "Comparing on resamples"
        self._samples = resample(measures, self.units, bootstrap, description)

    def difference(self, a: str, b: str, key: Key) -> Estimate:
        """Compute how much higher a metric of arm `a` is than of arm `b`.

        The metric is averaged over an arm's seeds. The bootstrap is paired: in every
        resample both arms, and all their seeds, are measured on the same drawn images.

        Returns:
            {"value", "ci_low", "ci_high"} of metric(a) - metric(b), with its standard
            error "se", "p" and the name of the two-sided "test", all about these models
            on other images: "delong" for an AUROC of one class against the rest, with
            {"ci_low", "ci_high"} under "delong" too ("delong_clustered" where groups of
            images are drawn); "mcnemar_exact" or "mcnemar_chi2" for accuracy,
            sensitivity or specificity of one run each, with its counts; else, and where
            groups of images are drawn, "bootstrap". Under "another_training" what
            training both again would give on other images, see
            `significance.another_training`. None for all of them and a "reason"
            where undefined.
        """
        ours, theirs = self._of(a, key), self._of(b, key)
        for values, _ in (ours, theirs):
            if isinstance(values, Undefined):
                again = _none(("ci_low", "ci_high", "se", "df", "p"), values)
                none = {"se": None, "p": None, "test": None, "another_training": again}
                return as_estimate(values, np.empty(0)) | none
        value = float(ours[0].mean() - theirs[0].mean())
        samples = ours[1].mean(axis=0) - theirs[1].mean(axis=0)
        result = as_estimate(value, samples)
        variance = _variance(samples)
        result |= {"se": variance**0.5, "p": bootstrap_p(samples), "test": "bootstrap"}
        result |= self._by_formula(a, b, key) or {}
        low, high = limits_of(key[-1])
        limits = low - high, high - low
        seeds = ours[0], theirs[0]
        again = another_training(value, variance, self.units.size, seeds, limits)
        return result | {"another_training": again}

    def seeds(self, arm: str) -> int:
        """Count the runs of an arm."""
        return len(self._runs_of[arm])

    def summary(self, name: str, key: Key) -> dict[str, Any]:
        """Compute an arm's mean over seeds, its intervals and its spread.

        Returns:
            {"value", "ci_low", "ci_high"} of the mean over seeds, the interval being
            that of these models on other images; under "another_training" the one of
            training again, see `significance.another_training`; and over the seeds
            "min", "max" and "std", the sample standard deviation (None if there is one
            seed), with "seeds", their number. None and a "reason" where undefined.
        """
        values, samples = self._of(name, key)
        seeds = self.seeds(name)
        spread = {"std": None, "min": None, "max": None, "seeds": seeds}
        if isinstance(values, Undefined):
            again = _none(("ci_low", "ci_high", "se", "df"), values)
            return (
                as_estimate(values, np.empty(0)) | spread | {"another_training": again}
            )
        if seeds > 1:
            spread["std"] = float(values.std(ddof=1))
        spread |= {"min": float(values.min()), "max": float(values.max())}
        value, samples = float(values.mean()), samples.mean(axis=0)
        result, limits = as_estimate(value, samples), limits_of(key[-1])
        variance = _variance(samples)
        if variance <= 0:
            # As where every image is decided rightly: no interval, not one of width 0.
            result |= {"ci_low": None, "ci_high": None, "reason": ALIKE}
        elif limits == (0.0, 1.0) and 0 < value < 1:
            low, high = wald(value, variance, limits)
            result |= {"ci_low": low, "ci_high": high, "method": "logit"}
        again = another_training(value, variance, self.units.size, (values,), limits)
        # That the metric is 0 is no question.
        del again["p"]
        return result | spread | {"another_training": again}

    def _of(self, arm: str, key: Key) -> tuple[Any, np.ndarray]:
        """Return values (seeds,), or why there are none, and (seeds, resamples)."""
        keys = [(str(i), *key) for i in self._runs_of[arm]]
        values = [self._values[run_key] for run_key in keys]
        for value in values:
            if isinstance(value, Undefined):
                return value, np.empty((len(keys), 0))
        return np.array(values), np.stack([self._samples[run_key] for run_key in keys])

    def _by_formula(self, a: str, b: str, key: Key) -> dict[str, Any] | None:
        """Test by DeLong, or by McNemar if images are independent, where they apply."""
        ours, theirs = ([self._runs[i] for i in self._runs_of[n]] for n in (a, b))
        predictions = self.first
        binary = predictions.task == "binary"
        if key[-1] == "auroc" and (binary or key[0] == "per_class"):
            i = predictions.class_names.index(key[1]) if len(key) > 1 else 1
            rows = np.flatnonzero(predictions.known[:, i])
            units = self.units.of(rows)
            scores = [
                np.stack([run.predictions.probs[rows, i] for run in arm])
                for arm in (ours, theirs)
            ]
            tested = delong_test(
                predictions.truth[rows, i], scores[0], scores[1], units
            )
            if tested is None:
                return None
            low, high = tested.interval
            ends = {"ci_low": low, "ci_high": high}
            name = "delong" if units.cluster is None else "delong_clustered"
            fields = {"se": tested.error, "p": tested.p, "test": name}
            return fields | {"delong": ends}
        if self.units.cluster is None and len(ours) == len(theirs) == 1:
            return self._by_mcnemar(ours[0], theirs[0], key)
        return None

    def _by_mcnemar(
        self, a: ScoredPredictions, b: ScoredPredictions, key: Key
    ) -> dict[str, Any] | None:
        """Test a proportion of correct decisions by McNemar."""
        predictions = self.first
        several = predictions.task == "multilabel"
        if key == ("accuracy",) and not several:
            return mcnemar(*(run.decisions == predictions.labels for run in (a, b)))
        if key[0] != "per_class" or key[-1] not in ("recall", "specificity"):
            return None
        i = predictions.class_names.index(key[1])
        decisions = [
            run.decisions[:, i] == 1 if several else run.decisions == i
            for run in (a, b)
        ]
        truth = predictions.truth[:, i]
        rows = predictions.known[:, i] & (truth == (key[-1] == "recall"))
        return mcnemar(*((decision == truth)[rows] for decision in decisions))


def _variance(samples: np.ndarray) -> float:
    """Compute the variance of resamples; of one or none there is nothing to say."""
    defined = samples[~np.isnan(samples)]
    return float(defined.var(ddof=1)) if len(defined) > 1 else 0.0


def _none(parts: Sequence[str], why: Undefined) -> dict[str, Any]:
    return dict.fromkeys(parts) | {"reason": why.reason}


def _measures(run: ScoredPredictions, keys: Sequence[Key]) -> list[Measure]:
    thresholds = [float(key[1]) for key in keys if key[0] == NET_BENEFIT]
    curve: list[Measure] = []
    if thresholds:
        measure = NetBenefit(run.predictions, run.calibrated, 1, np.array(thresholds))
        curve = [_AtThresholds(measure, thresholds)]
    keys = [key for key in keys if key[0] != NET_BENEFIT]
    per_class = any(key[-1] not in METRICS for key in keys)
    # Sensitivity and the like, of one class, come from the decisions too.
    measure_classes = dict.fromkeys(
        METRICS[key[-1]].measure if key[-1] in METRICS else Decisions for key in keys
    )
    return [
        Decisions(run.predictions, run.decisions, per_class=per_class)
        if cls is Decisions
        else cls(run.predictions)
        for cls in measure_classes
    ] + curve


class _AtThresholds(Measure):
    """The net benefit of a model, by threshold."""

    def __init__(self, measure: NetBenefit, thresholds: Sequence[float]):
        self._measure, self.images = measure, measure.images
        self._keys = {("model", str(i)): t for i, t in enumerate(thresholds)}

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        samples = self._measure.resampled(counts)
        return {(NET_BENEFIT, repr(t)): samples[key] for key, t in self._keys.items()}

    def reason(self, key: Key) -> Undefined:
        return self._measure.reason(key)


class _OfRun(Measure):
    """The wanted metrics of one run, its number in front of their keys."""

    def __init__(self, run: int, measure: Measure, wanted: set[Key]):
        self._run, self._measure, self._wanted = str(run), measure, wanted
        self.images = measure.images

    def resampled(self, counts: np.ndarray) -> dict[Key, np.ndarray]:
        samples = self._measure.resampled(counts).items()
        return {(self._run, *k): s for k, s in samples if k in self._wanted}

    def reason(self, key: Key) -> Undefined:
        return self._measure.reason(key[1:])
