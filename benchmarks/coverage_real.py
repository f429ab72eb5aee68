"""How often 95 % intervals hold the truth, in studies drawn from real chest X-rays.

    python benchmarks/coverage_real.py folder:chest_xray --features features.npz
    python benchmarks/coverage_real.py folder:chest_xray --features features.npz \\
        --studies 200 --patients 50 100 200 600

The features of a frozen network (EfficientNet-Lite0 with ImageNet weights) of all
X-rays are the population. A study draws patients from it, trains heads on some, chooses
the threshold on others and tests on the rest, or cross-validates. All patients that
were not drawn say what is true of these heads. Features are kept in the file given.

- "these models": the mean over seeds of one split's test metrics, about these heads.
- "retrained": the interval that adds the variance of seeds; the truth is the mean over
  `FRESH` more seeds on the same training images.
- "pooled": out-of-fold predictions of a cross-validation, about its heads, one of which
  at random scores each image of the population.
- "folds": the mean over folds with the corrected resampled t; the truth is the mean
  over all studies of the heads' values.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit
from sklearn.linear_model import SGDClassifier

from jaxmed.data.splits.allocation import allocate
from jaxmed.evaluation.comparison.alignment import ScoredPredictions, apply_thresholds
from jaxmed.evaluation.comparison.cross_validation import (
    FoldRun,
    cross_validate,
    pool_folds,
)
from jaxmed.evaluation.comparison.paired import Paired
from jaxmed.evaluation.intervals.bootstrap import Bootstrap
from jaxmed.evaluation.intervals.estimate import Key
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.thresholds import choose_thresholds

PATIENT = r"person(\d+)_|IM-(\d+)-"
NAMES = ("NORMAL", "PNEUMONIA")
SHARES, FOLDS, SEEDS, FRESH = (0.6, 0.2, 0.2), 5, 3, 5
METRICS: dict[str, Key] = {
    "AUROC": ("auroc",),
    "accuracy": ("accuracy",),
    "sensitivity": ("per_class", NAMES[1], "recall"),
    "specificity": ("per_class", NAMES[1], "specificity"),
    "Brier score": ("brier",),
}
# What `cross_validate` calls them.
COMPARED = ("auroc", "accuracy", "sensitivity", "specificity", "brier")
KINDS = ("these models", "retrained", "pooled", "folds")


class Images(NamedTuple):
    """Images as a head sees them: (n, d) features, (n,) labels and patients."""

    features: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def take(self, rows: np.ndarray) -> "Images":
        """Return some of the images."""
        return Images(*(part[rows] for part in self))


class Head(NamedTuple):
    """A trained head with the threshold that was chosen on validation."""

    weights: np.ndarray
    bias: float
    threshold: float | None = None

    def score(self, images: Images, split: str = "test") -> Predictions:
        """Predict images."""
        p = expit(images.features @ self.weights + self.bias)
        return Predictions(
            split=split,
            ids=tuple(map(str, range(len(p)))),
            labels=images.labels,
            probs=np.stack([1 - p, p], axis=1),
            class_names=NAMES,
            task="binary",
            groups=tuple(map(str, images.patients)),
        )

    def decide(self, images: Images) -> ScoredPredictions:
        """Predict images, and decide at the threshold."""
        return apply_thresholds(self.score(images), {NAMES[1]: self.threshold})


def load_population(source: str, file: Path) -> Images:
    """Load the features, or compute them and keep them in the file."""
    if not file.is_file():
        _compute(source, file)
    stored = np.load(file)
    patients = np.unique(stored["patients"], return_inverse=True)[1]
    features = stored["features"].astype(np.float64)
    features = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-6)
    return Images(features, stored["labels"].astype(np.int64), patients)


def _compute(source: str, file: Path) -> None:
    import jaxmed_convert
    from jaxmed import create_model, load_dataset
    from jaxmed.data import Splitting
    from jaxmed.inference.features import compute_features
    from jaxmed.inference.preprocessing import preprocessing_of

    splitting = Splitting(group_pattern=PATIENT)
    data = load_dataset(source, image_size=224, splitting=splitting)
    model = create_model("efficientnet_lite0", num_classes=2, in_channels=3, seed=0)
    jaxmed_convert.initialize(model, "imagenet")
    how = preprocessing_of(model, data.image_size, data.resizing, data.window)
    parts = [
        (compute_features(model, split, preprocessing=how), split)
        for split in data.splits.values()
    ]
    np.savez(
        file,
        features=np.concatenate([features for features, _ in parts]),
        labels=np.concatenate([split.labels for _, split in parts]),
        patients=[group for _, split in parts for group in split.groups or ()],
    )


def train(images: Images, val: Images, seed: int) -> Head:
    """Train a head by stochastic gradient descent, and choose its threshold on val."""
    model = SGDClassifier(
        loss="log_loss", alpha=1e-2, max_iter=20, tol=None, random_state=seed
    )
    model.fit(images.features, images.labels)
    head = Head(model.coef_[0], float(model.intercept_[0]))
    threshold = choose_thresholds(head.score(val, "val"))[NAMES[1]]
    return head._replace(threshold=threshold if isinstance(threshold, float) else None)


def measure(scored: Sequence[ScoredPredictions]) -> dict[str, float]:
    """Compute the mean of each metric over predictions of the same images."""
    paired = Paired({"": scored}, [*METRICS.values()], Bootstrap(resamples=1))
    return {name: paired.summary("", key)["value"] for name, key in METRICS.items()}


def divide(
    images: Images, shares: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """Return the part of each image: whole patients, each class with its share."""
    names, whose = np.unique(images.patients, return_inverse=True)
    members = np.zeros((len(names), 2))
    np.add.at(members, (whose, images.labels), 1)
    return allocate(members, shares, rng)[whose]


class Interval(NamedTuple):
    """An interval of a study, and what is true; NaN where there is none."""

    low: float
    high: float
    truth: float


Study = dict[tuple[str, str], Interval]


def one_split(drawn: Images, rest: Images, rng: np.random.Generator) -> Study:
    """Split a study's patients once, and train with several seeds."""
    parts = divide(drawn, SHARES, rng)
    of_train, val, test = (drawn.take(np.flatnonzero(parts == i)) for i in range(3))
    if not usable(of_train, val, test):
        return {}
    heads = [train(of_train, val, seed) for seed in range(SEEDS + FRESH)]
    scored = [head.decide(test) for head in heads[:SEEDS]]
    truth = measure([head.decide(rest) for head in heads[:SEEDS]])
    fresh = measure([head.decide(rest) for head in heads[SEEDS:]])
    paired = Paired({"": scored}, [*METRICS.values()], Bootstrap(resamples=300))
    study: Study = {}
    for name, key in METRICS.items():
        found = paired.summary("", key)
        again = found["another_training"]
        study["these models", name] = _interval(found, truth[name])
        study["retrained", name] = _interval(again, fresh[name])
    return study


def folds(drawn: Images, rest: Images, rng: np.random.Generator) -> Study:
    """Cross-validate a study's patients; the truth of "folds" is that of its heads."""
    parts = divide(drawn, [1 / FOLDS] * FOLDS, rng)
    runs, heads = [], []
    for fold in range(FOLDS):
        following = (fold + 1) % FOLDS
        test, val = (np.flatnonzero(parts == i) for i in (fold, following))
        others = np.flatnonzero((parts != fold) & (parts != following))
        of_train = drawn.take(others)
        if not usable(of_train, drawn.take(val), drawn.take(test)):
            return {}
        heads.append(train(of_train, drawn.take(val), fold))
        scored = heads[-1].decide(drawn.take(test))
        # Rows of the study, so that folds have other ids.
        named = replace(scored.predictions, ids=tuple(map(str, test)))
        runs.append(
            FoldRun(
                repeat=0, fold=fold, seed=0, trained_on=len(others),
                scored=replace(scored, predictions=named),
            )
        )  # fmt: skip
    result = cross_validate({"head": runs}, resamples=300)["arms"]["head"]["metrics"]
    each = [measure([head.decide(rest)]) for head in heads]
    among = rng.integers(0, FOLDS, len(rest.labels))
    scattered = []
    for fold, head in enumerate(heads):
        rows = np.flatnonzero(among == fold)
        scored = head.decide(rest.take(rows))
        named = replace(scored.predictions, ids=tuple(map(str, rows)))
        scored = replace(scored, predictions=named)
        scattered.append(replace(runs[fold], scored=scored))
    pooled = measure([pool_folds(scattered)])
    study: Study = {}
    for name, metric in zip(METRICS, COMPARED, strict=True):
        of, mean = result[metric], float(np.mean([one[name] for one in each]))
        study["folds", name] = _interval(of, mean)
        study["pooled", name] = _interval(of["out_of_fold"], pooled[name])
    return study


def usable(*parts: Images) -> bool:
    """Return whether every part has images of both classes."""
    return all(len(np.unique(part.labels)) == 2 for part in parts)


def _interval(found, truth: float) -> Interval:
    ends = (found["ci_low"], found["ci_high"])
    low, high = (np.nan if end is None else float(end) for end in ends)
    return Interval(low, high, truth)


def simulate(population: Images, patients: int, studies: int, seed: int) -> Iterator:
    """Draw studies, and yield their intervals."""
    names = np.unique(population.patients)
    for study in range(studies):
        rng = np.random.default_rng([seed, patients, study])
        drawn = np.isin(population.patients, rng.choice(names, patients, replace=False))
        inside, outside = (population.take(np.flatnonzero(x)) for x in (drawn, ~drawn))
        yield one_split(inside, outside, rng) | folds(inside, outside, rng)


def coverage(studies: Sequence[Study], kind: str, name: str) -> str:
    """Format the share of intervals, in percent, that hold what is true."""
    found = [study[kind, name] for study in studies if (kind, name) in study]
    given = [one for one in found if not np.isnan(one.low)]
    if len(given) < 0.1 * len(studies):
        return "–"
    of = np.array(given)
    truth = of[:, 2].mean() if kind == "folds" else of[:, 2]
    held = ((of[:, 0] <= truth) & (truth <= of[:, 1])).mean()
    share = len(given) / len(studies)
    return f"{100 * held:.0f}" + (f" ({share:.0%})" if share < 0.995 else "")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", help="the chest X-rays, as load_dataset takes them")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--patients", type=int, nargs="*", default=[50, 100, 200, 600])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    population = load_population(options.source, options.features)
    found = {
        n: list(simulate(population, n, options.studies, options.seed))
        for n in options.patients
    }
    print("| | " + " | ".join(f"{k}, {n}" for k in KINDS for n in found) + " |")
    print("|---" * (len(KINDS) * len(found) + 1) + "|")
    for name in METRICS:
        cells = [coverage(found[n], kind, name) for kind in KINDS for n in found]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
