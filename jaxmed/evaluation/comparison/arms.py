"""Comparison of several arms on the same images, in pairs, with tests."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.alignment import ScoredPredictions
from jaxmed.evaluation.comparison.margins import check_margin, margin_tests
from jaxmed.evaluation.comparison.paired import NET_BENEFIT, Paired
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, method_of
from jaxmed.evaluation.intervals.estimate import LEVEL, Key
from jaxmed.evaluation.intervals.significance import holm
from jaxmed.evaluation.metrics.classification import MANY
from jaxmed.evaluation.metrics.registry import metric_names
from jaxmed.evaluation.predictions import Predictions, image_fingerprint

# Resamples beyond 0 that a p on the border should rest on, and the most that are drawn.
RESOLVED, MOST = 10, 20_000
# How sure one wants to be before acting, where net benefits are compared.
THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5)


def compare_arms(
    arms: Mapping[str, Sequence[ScoredPredictions]],
    *,
    all_pairs: bool = False,
    margin: float | None = None,
    margin_metric: str = "auroc",
    thresholds: Sequence[float] = THRESHOLDS,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare arms in pairs, on the same images.

    Args:
        arms: at least two, by name: their runs, one per seed. The first is the one
            that the others are compared with.
        all_pairs: compare every two instead.
        margin: of non-inferiority and equivalence in the metric named, see
            `margin_tests`; None for no such tests.
        margin_metric: one of the compared metrics.
        thresholds: in (0, 1), to compare the net benefit at, of binary tasks.
        resamples: of the bootstrap, at least; more are drawn where the number of
            comparisons needs them, see `resamples_for`.
        seed: of the bootstrap.

    Returns:
        Plain dicts, lists and numbers. "arms": by name {"metrics"}, of each metric
        `Paired.summary`. "comparisons": a list of {"a", "b", "metrics", "per_class",
        "net_benefit"}; of each metric, `Paired.difference` of a - b, and in it and in
        its "another_training" a "p_holm". p values of one metric are adjusted for the
        number of pairs, those of one metric of each class for pairs and classes; not
        for the number of metrics. "net_benefit": {"thresholds", "differences"}, at each
        of them the interval of a - b, of calibrated probabilities where runs have them
        (Vickers and Elkin 2006, see `decision_curve`; without a test, as Vickers et
        al., "Extensions to decision curve analysis", BMC Medical Informatics and
        Decision Making 2008, advise). With a margin, "margin": see `margin_tests`.

    Raises:
        InputError: fewer than two arms, a margin or a threshold out of range, or as
            `Paired`.
    """
    if len(arms) < 2 or not all(arms.values()):
        raise InputError("A comparison needs at least two arms, each with a run.")
    first = next(iter(arms.values()))[0].predictions
    overall, of_classes = overall_keys(first), class_keys(first)
    if margin is not None:
        check_margin(margin, margin_metric, list(overall))
    benefits = net_benefit_keys(first, thresholds)
    pairs = pairs_of(arms, all_pairs=all_pairs)
    tests = len(pairs) * max(1, len(of_classes) * _by_bootstrap(arms))
    bootstrap = enough_for(tests, Bootstrap(resamples=resamples, seed=seed))
    wanted = [
        *overall.values(),
        *(k for of in of_classes.values() for k in of.values()),
        *benefits.values(),
    ]
    paired = Paired(arms, wanted, bootstrap)
    comparisons = [
        {
            "a": a,
            "b": b,
            "metrics": {m: paired.difference(a, b, key) for m, key in overall.items()},
            "per_class": {
                name: {m: paired.difference(a, b, key) for m, key in keys.items()}
                for name, keys in of_classes.items()
            },
            "net_benefit": {
                "thresholds": list(benefits),
                "differences": [
                    _interval_only(paired.difference(a, b, key))
                    for key in benefits.values()
                ],
            },
        }
        for a, b in pairs
    ]
    _adjust(comparisons)
    within = {}
    if margin is not None:
        within = {"margin": margin_tests(comparisons, margin_metric, margin)}
    summaries = {
        name: {"metrics": {m: paired.summary(name, key) for m, key in overall.items()}}
        for name in arms
    }
    return _described(paired, bootstrap) | {
        "arms": summaries,
        "comparisons": comparisons,
        **within,
    }


def net_benefit_keys(
    predictions: Predictions, thresholds: Sequence[float]
) -> dict[float, Key]:
    """Return the keys of net benefit by threshold; none unless the task is binary.

    Raises:
        InputError: a threshold is out of range.
    """
    for threshold in thresholds:
        if not 0 < threshold < 1:
            raise InputError(
                f"Thresholds of net benefit must be in (0, 1), got {threshold:g}."
            )
    if predictions.task != "binary":
        return {}
    return {float(t): (NET_BENEFIT, repr(float(t))) for t in thresholds}


def _interval_only(difference: Mapping[str, Any]) -> dict[str, Any]:
    """Return a difference without its test."""
    parts = ("value", "ci_low", "ci_high", "reason")
    again = difference["another_training"]
    kept = {name: difference[name] for name in parts if name in difference}
    return kept | {"another_training": {k: again[k] for k in parts if k in again}}


def overall_keys(predictions: Predictions) -> dict[str, Key]:
    """Return the keys of the compared metrics by name."""
    keys: dict[str, Key] = {name: (name,) for name in metric_names(predictions)}
    if predictions.task == "binary":
        positive = predictions.class_names[1]
        keys["sensitivity"] = ("per_class", positive, "recall")
        keys["specificity"] = ("per_class", positive, "specificity")
    return keys


def class_keys(predictions: Predictions) -> dict[str, dict[str, Key]]:
    """Return the keys of the compared metrics of each class, by class and name."""
    names = predictions.class_names
    if predictions.task == "binary" or len(names) > MANY:
        return {}
    parts = {"auroc": "auroc"}
    if predictions.task == "multilabel":
        parts |= {"sensitivity": "recall", "specificity": "specificity"}
    return {
        name: {metric: ("per_class", name, part) for metric, part in parts.items()}
        for name in names
    }


def pairs_of(arms: Iterable[str], *, all_pairs: bool) -> list[tuple[str, str]]:
    """Pair arms (a, b), whose difference is a - b: with the first, or every two."""
    names = list(arms)
    pairs = [(b, a) for a, b in combinations(names, 2)]
    return pairs if all_pairs else pairs[: len(names) - 1]


def enough_for(tests: int, bootstrap: Bootstrap) -> Bootstrap:
    """Return the bootstrap, of more resamples where `resamples_for` needs them."""
    needed = max(bootstrap.resamples, resamples_for(tests))
    return replace(bootstrap, resamples=needed)


def resamples_for(tests: int) -> int:
    """Return the number of resamples that Holm's adjustment needs.

    The p of a bootstrap cannot fall below 2 / (resamples + 1), and the smallest of
    several is multiplied by their number: with too few resamples no difference could
    be clear. These put `RESOLVED` resamples beyond 0 where the smallest p is on the
    border, as far as `MOST` resamples allow.
    """
    return min(math.ceil(2 * RESOLVED * max(tests, 1) / (1 - LEVEL)), MOST)


def adjust(differences: Sequence[dict[str, Any]]) -> None:
    """Add "p_holm" to differences of one metric, and to their "another_training"."""
    again = [difference["another_training"] for difference in differences]
    for family in (differences, again):
        adjusted = holm([difference["p"] for difference in family])
        for difference, p in zip(family, adjusted, strict=True):
            difference["p_holm"] = p


def _by_bootstrap(arms: Mapping[str, Sequence[ScoredPredictions]]) -> bool:
    """Return whether classes are tested by bootstrap, since no formula applies."""
    runs = [run.predictions for seeds in arms.values() for run in seeds]
    several = any(len(seeds) > 1 for seeds in arms.values())
    groups = any(run.groups is not None for run in runs)
    return runs[0].task == "multilabel" and (groups or several)


def _adjust(comparisons: Sequence[Mapping[str, Any]]) -> None:
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for comparison in comparisons:
        for metric, difference in comparison["metrics"].items():
            families.setdefault(("all", metric), []).append(difference)
        for of_class in comparison["per_class"].values():
            for metric, difference in of_class.items():
                families.setdefault(("class", metric), []).append(difference)
    for family in families.values():
        adjust(family)


def _described(paired: Paired, bootstrap: Bootstrap) -> dict[str, Any]:
    """Describe the compared arms and the method."""
    first, units = paired.first, paired.units
    described: dict[str, Any] = {
        "task": first.task,
        "class_names": list(first.class_names),
    }
    if first.task == "binary":
        described["positive_class"] = first.class_names[1]
    described["n"] = len(first.ids)
    if units.cluster is not None:
        described["groups"] = int(units.cluster.max()) + 1
    return described | {
        "images": image_fingerprint(first),
        "intervals": {
            "method": f"paired {method_of(units)}",
            "level": LEVEL,
            "resamples": bootstrap.resamples,
            "seed": bootstrap.seed,
        },
        "adjusted": "Holm, over the comparisons of one metric",
    }
