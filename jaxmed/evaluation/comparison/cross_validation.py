"""Cross-validation: arms over folds, repeats and seeds, and their differences.

Two questions have two answers. What would this way of training give on another training
and test set of these sizes? The mean over folds says it, with an interval by Nadeau and
Bengio's corrected resampled t, since folds share most of their training images. How
good are these very models on other images? The predictions of all folds together, each
image predicted by a model that was not trained on it, say that, with a bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.alignment import ScoredPredictions
from jaxmed.evaluation.comparison.arms import enough_for, overall_keys, pairs_of
from jaxmed.evaluation.comparison.paired import Paired
from jaxmed.evaluation.intervals.bootstrap import Bootstrap, method_of
from jaxmed.evaluation.intervals.estimate import LEVEL, Key, Undefined
from jaxmed.evaluation.intervals.significance import holm, wald
from jaxmed.evaluation.metrics.registry import limits_of
from jaxmed.evaluation.predictions import Predictions, image_fingerprint

METHOD = "corrected_resampled_t"
ONE_FOLD = Undefined("one fold only")
ALL_ALIKE = Undefined("alike in every fold")


@dataclass(frozen=True, kw_only=True, eq=False)
class FoldRun:
    """A run of a cross-validation, measured on the fold that it was not trained on.

    Attributes:
        repeat, fold, seed: which run of an arm.
        scored: the fold's predictions, and what was decided at the run's own threshold.
        trained_on: how many images it was trained on.
    """

    repeat: int
    fold: int
    seed: int
    scored: ScoredPredictions
    trained_on: int


def corrected_t(
    values: Sequence[float], test_share: float, limits: tuple[float, float]
) -> dict[str, Any]:
    """Compute interval and test of a mean over folds, which share training images.

    Nadeau and Bengio, "Inference for the generalization error", Machine Learning 2003,
    section 5: of J estimates with the sample variance s², that of their mean is taken
    as (1 / J + n_test / n_train) s², where s² / J would be far too small. With r
    repeats of k folds J is k r (Bouckaert and Frank, "Evaluating the replicability of
    significance tests for comparing learning algorithms", PAKDD 2004), and Student's t
    has J - 1 degrees of freedom.

    Args:
        values: (J,), an estimate, or a difference of two arms, for every fold.
        test_share: n_test / n_train.
        limits: what the mean can be, see `wald`.

    Returns:
        {"value", "ci_low", "ci_high", "se", "df", "p", "method"}, p two-sided for the
        value 0; but for the value None, and a "reason", of one fold or without spread.

    Examples:
        >>> found = corrected_t([0.90, 0.92, 0.88, 0.91, 0.89], 1 / 4, (-1.0, 1.0))
        >>> {part: round(found[part], 4) for part in ("value", "se", "ci_low")}
        {'value': 0.9, 'se': 0.0106, 'ci_low': 0.8706}
    """
    of = np.asarray(values, np.float64)
    mean, parts = float(of.mean()), ("ci_low", "ci_high", "se", "df", "p")
    result: dict[str, Any] = {"value": mean, **dict.fromkeys(parts), "method": METHOD}
    if len(of) < 2:
        return result | {"reason": ONE_FOLD.reason}
    variance, df = (1 / len(of) + test_share) * float(of.var(ddof=1)), len(of) - 1
    if variance <= 0:
        return result | {"reason": ALL_ALIKE.reason}
    low, high = wald(mean, variance, limits, df)
    p = 2 * float(student.sf(abs(mean) / variance**0.5, df))
    ends = {"ci_low": low, "ci_high": high, "se": variance**0.5}
    return result | ends | {"df": float(df), "p": p}


def pool_folds(runs: Sequence[FoldRun]) -> ScoredPredictions:
    """Join the predictions of all folds of one repeat and seed.

    Args:
        runs: one for each fold.

    Returns:
        The predictions of all images, fold after fold.

    Raises:
        InputError: folds overlap, or differ in classes or task.
    """
    runs = sorted(runs, key=lambda run: run.fold)
    first = runs[0].scored.predictions
    parts = [run.scored.predictions for run in runs]
    for part in parts:
        if (part.task, part.class_names) != (first.task, first.class_names):
            raise InputError("The folds of a cross-validation differ in their classes.")
    grouped = all(part.groups is not None for part in parts)
    calibrated = [run.scored.calibrated for run in runs]
    names = [name for name in first.columns if all(name in p.columns for p in parts)]
    pooled = Predictions(
        split=first.split,
        ids=tuple(name for part in parts for name in part.ids),
        labels=np.concatenate([part.labels for part in parts]),
        probs=np.concatenate([part.probs for part in parts]),
        class_names=first.class_names,
        task=first.task,
        groups=tuple(g for part in parts for g in part.groups or ())
        if grouped
        else None,
        columns={n: tuple(t for p in parts for t in p.columns[n]) for n in names},
    )
    known = [of for of in calibrated if of is not None]
    return ScoredPredictions(
        predictions=pooled,
        decisions=np.concatenate([run.scored.decisions for run in runs]),
        name=runs[0].scored.name,
        calibrated=np.concatenate(known) if len(known) == len(runs) else None,
    )


def cross_validate(
    arms: Mapping[str, Sequence[FoldRun]],
    *,
    all_pairs: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Evaluate arms by cross-validation, and compare them.

    Args:
        arms: at least one, by name: the runs of every fold, repeat and seed; all arms
            of the same folds. The first is the one that others are compared with.
        all_pairs: compare every two instead.
        resamples: of the bootstrap, at least.
        seed: of the bootstrap.

    Returns:
        Plain dicts, lists and numbers: "folds", "repeats", "n" and "groups" (patients);
        "arms": by name "seeds" and "metrics", of each metric `corrected_t` of its means
        over seeds, "sd", "min" and "max" over folds, "folds" (a list of {"repeat",
        "fold", "value", "n"}) and "out_of_fold", {"value", "ci_low", "ci_high"} of the
        pooled predictions, averaged over repeats and seeds; "comparisons": of each pair
        {"a", "b", "metrics"}, of each metric `corrected_t` of the folds' differences
        with "p_holm", and "out_of_fold", the paired difference of pooled predictions
        with its test and "p_holm". A metric that is undefined in a fold has no mean.

    Raises:
        InputError: an arm lacks a fold that another has, or the folds of the arms have
            other images.
    """
    _check_folds(arms)
    pooled = {name: _pooled(runs) for name, runs in arms.items()}
    pairs = pairs_of(arms, all_pairs=all_pairs)
    reference = next(iter(arms))
    first = pooled[reference][0].predictions
    keys = overall_keys(first)
    bootstrap = enough_for(len(pairs), Bootstrap(resamples=resamples, seed=seed))
    paired = Paired(pooled, [*keys.values()], bootstrap)
    tables = {name: _FoldTable(runs, keys) for name, runs in arms.items()}
    result: dict[str, Any] = {
        "task": first.task,
        "class_names": list(first.class_names),
        "folds": len({run.fold for run in arms[reference]}),
        "repeats": len({run.repeat for run in arms[reference]}),
        "n": len(first.ids),
        "test_share": tables[reference].test_share,
        "images": image_fingerprint(first),
        "intervals": {
            "method": f"{METHOD} over folds; out of fold: paired "
            f"{method_of(paired.units)}",
            "level": LEVEL,
            "resamples": bootstrap.resamples,
            "seed": seed,
        },
    }
    if paired.units.cluster is not None:
        result["groups"] = paired.units.size
    result["arms"] = {
        name: {
            "seeds": sorted({run.seed for run in runs}),
            "metrics": {
                metric: tables[name].summary(metric, limits_of(key[-1]))
                | {"out_of_fold": _kept(paired.summary(name, key))}
                for metric, key in keys.items()
            },
        }
        for name, runs in arms.items()
    }
    result["comparisons"] = [
        {
            "a": a,
            "b": b,
            "metrics": {
                metric: tables[a].difference(tables[b], metric, limits_of(key[-1]))
                | {"out_of_fold": _kept(paired.difference(a, b, key))}
                for metric, key in keys.items()
            },
        }
        for a, b in pairs
    ]
    for metric in keys:
        of_pairs = [pair["metrics"][metric] for pair in result["comparisons"]]
        for family in (of_pairs, [test["out_of_fold"] for test in of_pairs]):
            adjusted = holm([test["p"] for test in family])
            for test, p in zip(family, adjusted, strict=True):
                test["p_holm"] = p
    return result


def _kept(estimate: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what takes seeds as independent trainings: these share images."""
    dropped = ("another_training", "std", "min", "max", "seeds")
    return {k: v for k, v in estimate.items() if k not in dropped}


def _pooled(runs: Sequence[FoldRun]) -> list[ScoredPredictions]:
    """Pool the folds of every repeat and seed."""
    by_model: dict[tuple[int, int], list[FoldRun]] = {}
    for run in runs:
        by_model.setdefault((run.repeat, run.seed), []).append(run)
    return [pool_folds(by_model[which]) for which in sorted(by_model)]


def _check_folds(arms: Mapping[str, Sequence[FoldRun]]) -> None:
    """Refuse arms of other folds, and seeds that lack one."""
    if not arms or not all(arms.values()):
        raise InputError("A cross-validation needs at least one arm with runs.")
    first, ids = next(iter(arms)), {}
    for name, runs in arms.items():
        for run in runs:
            which, images = (run.repeat, run.fold), set(run.scored.predictions.ids)
            if ids.setdefault(which, images) != images:
                raise InputError(
                    f"Fold {run.fold} of repeat {run.repeat} has other images in "
                    f"{run.scored.name or name} than in {first}. Folds must be the "
                    "same for all arms and seeds."
                )
    for name, runs in arms.items():
        for seed in {run.seed for run in runs}:
            lacking = set(ids) - {(r.repeat, r.fold) for r in runs if r.seed == seed}
            if lacking:
                repeat, fold = min(lacking)
                raise InputError(
                    f"Arm {name}, seed {seed} has no finished run of fold {fold} of "
                    f"repeat {repeat}. Run the experiment to its end."
                )


class _FoldTable:
    """The metrics of one arm in every fold, averaged over seeds.

    Attributes:
        test_share: n_test / n_train, on average over folds.
    """

    def __init__(self, runs: Sequence[FoldRun], keys: Mapping[str, Key]):
        self._by_fold: dict[tuple[int, int], list[FoldRun]] = {}
        for run in runs:
            self._by_fold.setdefault((run.repeat, run.fold), []).append(run)
        self._by_fold = dict(sorted(self._by_fold.items()))
        shares = [len(r.scored.predictions.ids) / max(r.trained_on, 1) for r in runs]
        self.test_share = float(np.mean(shares))
        self._values = {metric: [] for metric in keys}
        for of_fold in self._by_fold.values():
            # Without resamples: only the values are wanted.
            paired = Paired(
                {"arm": [run.scored for run in of_fold]},
                [*keys.values()],
                Bootstrap(resamples=1),
            )
            for metric, key in keys.items():
                self._values[metric].append(paired.summary("arm", key))

    def summary(self, metric: str, limits: tuple[float, float]) -> dict[str, Any]:
        """Describe a metric over folds."""
        values = self._defined(metric)
        if isinstance(values, Undefined):
            result = _undefined(values)
        else:
            result = corrected_t(values, self.test_share, limits)
            result |= {
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "min": float(np.min(values)),
                "max": float(np.max(values)),
            }
        # That a metric is 0 is no question.
        result.pop("p")
        return result | {"folds": self._listed(metric)}

    def difference(
        self, other: "_FoldTable", metric: str, limits: tuple[float, float]
    ) -> dict[str, Any]:
        """Describe by how much a metric is higher than another arm's, fold by fold."""
        ours, theirs = self._defined(metric), other._defined(metric)
        for values in (ours, theirs):
            if isinstance(values, Undefined):
                return _undefined(values)
        low, high = limits
        return corrected_t(
            np.subtract(ours, theirs).tolist(),
            (self.test_share + other.test_share) / 2,
            (low - high, high - low),
        )

    def _defined(self, metric: str) -> list[float] | Undefined:
        values = []
        for (repeat, fold), score in zip(
            self._by_fold, self._values[metric], strict=True
        ):
            if score["value"] is None:
                return Undefined(
                    f"undefined in fold {fold} of repeat {repeat}: {score['reason']}"
                )
            values.append(score["value"])
        return values

    def _listed(self, metric: str) -> list[dict[str, Any]]:
        rows = zip(self._by_fold.items(), self._values[metric], strict=True)
        return [
            {
                "repeat": repeat,
                "fold": fold,
                "value": score["value"],
                "n": len(runs[0].scored.predictions.ids),
            }
            for ((repeat, fold), runs), score in rows
        ]


def _undefined(why: Undefined) -> dict[str, Any]:
    parts = ("value", "ci_low", "ci_high", "se", "df", "p")
    return dict.fromkeys(parts) | {"method": METHOD, "reason": why.reason}
