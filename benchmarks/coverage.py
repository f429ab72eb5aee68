"""How often 95 % intervals hold the value of the population, in simulated test sets.

    python benchmarks/coverage.py                     # the table of docs/evaluation.md
    python benchmarks/coverage.py --tests 200 --images 156 --prevalence 0.2

Scores are binormal: those of positives are normal around `SHIFT`, of negatives around
0. Where patients are clusters they have `PER_PATIENT` images of one label each, whose
scores are correlated within a class by `ICC`. Probabilities are too extreme and too
high by `SLOPE` and `INTERCEPT`, on the logit; those "calibrated" are exactly right. The
values of the population are those of a sample of `POPULATION` images.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit

from jaxmed.evaluation.intervals.bootstrap import Bootstrap, units_of
from jaxmed.evaluation.intervals.estimate import Key, Measure, estimate
from jaxmed.evaluation.metrics.calibration_error import CalibrationError
from jaxmed.evaluation.metrics.classification import Decisions
from jaxmed.evaluation.metrics.decision_curve import NetBenefit
from jaxmed.evaluation.metrics.operating_points import ThresholdDecisions
from jaxmed.evaluation.metrics.probability_scores import Losses, Ratios, Recalibration
from jaxmed.evaluation.metrics.ranking import Ranking
from jaxmed.evaluation.predictions import Predictions

SHIFT = 1.5
PER_PATIENT, ICC = 4, 0.8
SLOPE, INTERCEPT = 1.3, 0.3
POPULATION = 1_000_000
SIZES, PREVALENCES = (50, 156, 600), (0.05, 0.2, 0.5)
CLASSES, LABELS = 4, 14
NAMES: dict[str, Key] = {
    "AUROC": ("auroc",),
    "AUPRC": ("auprc",),
    "accuracy": ("accuracy",),
    "sensitivity": ("at_threshold", "sensitivity"),
    "specificity": ("at_threshold", "specificity"),
    "PPV": ("at_threshold", "ppv"),
    "NPV": ("at_threshold", "npv"),
    "LR+": ("at_threshold", "lr_positive"),
    "LR-": ("at_threshold", "lr_negative"),
    "F1": ("at_threshold", "f1"),
    "Youden's J": ("at_threshold", "youden_j"),
    "MCC": ("at_threshold", "mcc"),
    "kappa": ("at_threshold", "kappa"),
    "PPV at 10 %": ("at_threshold", "ppv_at_prevalence"),
    "Brier score": ("brier",),
    "log loss": ("log_loss",),
    "net benefit": ("model", "0"),
    "of treating all": ("all", "0"),
    "ECE": ("ece",),
    "ECE, calibrated": ("exact", "ece"),
    "intercept": ("intercept",),
    "slope": ("slope",),
    "O:E ratio": ("oe_ratio",),
    "Brier skill": ("brier_skill",),
}
# Of a multiclass and of a multilabel task.
MEANS: dict[str, Key] = {
    "AUROC": ("auroc",),
    "AUPRC": ("auprc",),
    "accuracy": ("accuracy",),
    "balanced accuracy": ("balanced_accuracy",),
    "F1": ("f1",),
    "MCC": ("mcc",),
    "kappa": ("kappa",),
    "weighted F1": ("averages", "weighted", "f1"),
    "micro AUROC": ("averages", "micro", "auroc"),
    "log loss": ("log_loss",),
    "Brier skill": ("brier_skill",),
    "ECE": ("ece",),
    "ACE": ("ace",),
}


class Situation(NamedTuple):
    """What test sets are like.

    Attributes:
        images: of a test set.
        prevalence: of the positive class, or of each label.
        clustered: four images of each patient.
        task: of `Predictions`. Classes of a multiclass task are unequal.
    """

    images: int
    prevalence: float
    clustered: bool = False
    task: str = "binary"

    @property
    def keys(self) -> dict[str, Key]:
        """What is measured, by name."""
        return NAMES if self.task == "binary" else MEANS

    def draw(self, rng: np.random.Generator, images: int) -> Predictions:
        """Draws a test set."""
        n = -(-images // PER_PATIENT) if self.clustered else images
        labels = self._labels(rng, n)
        k = {"binary": 2, "multiclass": CLASSES, "multilabel": LABELS}[self.task]
        noise = rng.normal(size=(n, k))
        patients = None
        if self.clustered:
            patients = np.repeat(np.arange(n), PER_PATIENT)
            labels, own = labels[patients], rng.normal(size=(len(patients), k))
            noise = ICC**0.5 * noise[patients] + (1 - ICC) ** 0.5 * own
        return Predictions(
            split="test",
            ids=tuple(map(str, range(len(labels)))),
            labels=labels,
            probs=self._probs(noise, labels),
            class_names=tuple(f"c{i}" for i in range(k)),
            task=self.task,
            groups=None if patients is None else tuple(map(str, patients)),
        )

    def _labels(self, rng: np.random.Generator, n: int) -> np.ndarray:
        if self.task == "multiclass":
            return rng.choice(CLASSES, n, p=self._shares())
        shape = n if self.task == "binary" else (n, LABELS)
        return (rng.random(shape) < self.prevalence).astype(int)

    def _shares(self) -> np.ndarray:
        """The last class has the prevalence, the others equal parts of the rest."""
        rest = (1 - self.prevalence) / (CLASSES - 1)
        return np.array([*[rest] * (CLASSES - 1), self.prevalence])

    def _probs(self, noise: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if self.task == "multiclass":
            scores = noise + SHIFT * (labels[:, None] == np.arange(CLASSES))
            logits = np.log(self._shares()) + SHIFT * scores
            powers = np.exp(SLOPE * logits)
            return powers / powers.sum(axis=1, keepdims=True)
        binary = self.task == "binary"
        scores = noise[:, 0] if binary else noise
        scores = scores + SHIFT * labels
        exact = logit(self.prevalence) + SHIFT * scores - SHIFT**2 / 2
        p = expit(INTERCEPT + SLOPE * exact)
        return np.stack([1 - p, p], axis=1) if binary else p

    def measures(self, predictions: Predictions) -> list[Measure]:
        """Makes what is measured of a test set."""
        found: list[Measure] = [
            Ranking(predictions),
            Decisions(predictions),
            Losses(predictions),
            Ratios(predictions),
            CalibrationError(predictions),
        ]
        if self.task != "binary":
            return found
        p = predictions.probs[:, 1]
        right = expit((logit(p) - INTERCEPT) / SLOPE)
        right = np.stack([1 - right, right], axis=1)
        at = np.array([self.prevalence])
        cut = expit(INTERCEPT + SLOPE * logit(self.prevalence))
        return [
            *found,
            ThresholdDecisions(predictions, {"c1": float(cut)}, 0.1),
            NetBenefit(predictions, right, 1, at),
            CalibrationError(predictions, right, ("exact",)),
            Recalibration(predictions),
        ]


class Coverage(NamedTuple):
    """How an interval did.

    Attributes:
        held: share of intervals that hold the population's value.
        given: share of test sets with an interval.
    """

    held: float
    given: float


def population(situation: Situation, seed: int = 0) -> dict[Key, float]:
    """Computes the population's values."""
    alone = situation._replace(clustered=False)
    drawn = alone.draw(np.random.default_rng(seed), POPULATION)
    values = {}
    for measure in alone.measures(drawn):
        values |= measure.values()
    # Of a sample, the calibration error of what is exactly right is noise.
    return values | {("exact", "ece"): 0.0}


def simulate(
    situation: Situation, tests: int, *, resamples: int = 500, seed: int = 1
) -> dict[str, Coverage]:
    """Draws test sets, and counts the intervals that hold the population's value."""
    truth, rng = population(situation), np.random.default_rng(seed)
    held = dict.fromkeys(situation.keys, 0)
    given = dict.fromkeys(situation.keys, 0)
    for test in range(tests):
        drawn = situation.draw(rng, situation.images)
        bootstrap = Bootstrap(resamples=resamples, seed=test)
        found = estimate(situation.measures(drawn), units_of(drawn), bootstrap)
        for name, key in situation.keys.items():
            low, high = found[key]["ci_low"], found[key]["ci_high"]
            if low is None:
                continue
            given[name] += 1
            held[name] += low <= truth[key] <= high
    return {
        name: Coverage(held[name] / max(given[name], 1), given[name] / tests)
        for name in situation.keys
    }


def rows(
    found: Mapping[Situation, Mapping[str, Coverage]], names: Mapping[str, Key]
) -> Iterator[str]:
    """Formats a Markdown table: a row a metric, a column a situation."""
    heads = [f"{s.images}, {s.prevalence:.0%}" for s in found]
    yield f"| | {' | '.join(heads)} |"
    yield "|---" * (len(heads) + 1) + "|"
    for name in names:
        cells = []
        for by_name in found.values():
            one = by_name[name]
            text = f"{100 * one.held:.0f}" if one.given >= 0.1 else "–"
            cells.append(text if one.given > 0.995 else f"{text} ({one.given:.0%})")
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--images", type=int, nargs="*", default=SIZES)
    parser.add_argument("--prevalence", type=float, nargs="*", default=PREVALENCES)
    parser.add_argument("--kind", choices=("alone", "patients", "means"), nargs="*")
    options = parser.parse_args()
    grid = [(n, p) for n in options.images for p in options.prevalence]
    kinds = {
        "alone": [Situation(n, p) for n, p in grid],
        "patients": [Situation(n, p, clustered=True) for n, p in grid],
        "means": [
            Situation(n, p, task=task)
            for task, p in (("multiclass", 0.05), ("multilabel", 0.03))
            for n in options.images
        ],
    }
    for kind in options.kind or kinds:
        found = {
            one: simulate(one, options.tests, resamples=options.resamples)
            for one in kinds[kind]
        }
        print(f"\n{kind}: images, prevalence\n")
        print(*rows(found, kinds[kind][0].keys), sep="\n", flush=True)


if __name__ == "__main__":
    main()
