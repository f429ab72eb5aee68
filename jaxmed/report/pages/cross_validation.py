"""The report of a cross-validation: arms over folds, and their differences."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxmed.errors import InputError
from jaxmed.evaluation.comparison.cross_validation import FoldRun, cross_validate
from jaxmed.report.arm_estimates import COMPARED
from jaxmed.report.figures.forest import Line, draw_forest
from jaxmed.report.figures.style import png
from jaxmed.report.page import EmbeddedImage, embed_figure, render_page
from jaxmed.report.tables.comparison import INDEPENDENT, TESTS, lower_is_better
from jaxmed.report.tables.formatting import (
    Table,
    estimate,
    format_p,
    interval,
    metric_title,
    number,
    p_cell,
    word,
)
from jaxmed.report.text.headline import with_test_interval
from jaxmed.runs.layout import (
    CONFIG,
    CROSS_VALIDATION,
    REPORT,
    fold_of,
    has_metrics,
    runs_of_experiment,
)
from jaxmed.runs.record import RunRecord, read_run
from jaxmed.runtime.files import write_json, write_text
from jaxmed.runtime.toml import read_toml


def is_cross_validation(folder: Path) -> bool:
    """Return whether the runs of an experiment are of the folds of one."""
    return any(fold_of(run) is not None for run in runs_of_experiment(folder))


def build_cross_validation(
    folder: Path, *, title: str, description: str = "", arms: Sequence[str] = ()
) -> Path:
    """Write cross_validation.json and report.html.

    Folds that not every arm and seed has finished are left out, and named.

    Args:
        folder: `OUT/<experiment>`.
        title: the headline of the page.
        description: a sentence or two about the experiment.
        arms: names of arms in the order wanted.

    Returns:
        The path of report.html.

    Raises:
        InputError: no fold is finished in all arms and seeds, or a run is damaged.
    """
    read = _read(folder, arms)
    options = next(iter(read.arms.values()))[0][0].metrics.get("intervals", {})
    chosen = {k: options[k] for k in ("resamples", "seed") if k in options}
    by_arm = {name: [run for _, run in runs] for name, runs in read.arms.items()}
    result = cross_validate(by_arm, **chosen)
    result["unfinished"] = list(read.unfinished)
    write_json(folder / CROSS_VALIDATION, result)
    html = render_page(
        "cross_validation.html.j2",
        title=title,
        description=description,
        headlines=sentences(result),
        facts=_facts(result),
        forests=[_forest(result, metric) for metric in COMPARED],
        summary=summary_table(result),
        differences=[difference_table(result, pair) for pair in result["comparisons"]],
        folds=[fold_table(result, metric) for metric in COMPARED],
        explained=explanations(result),
        unfinished=read.unfinished,
    )
    path = folder / REPORT
    write_text(path, html)
    return path


class _Finished(NamedTuple):
    """Runs of folds that all arms and seeds have, and what else there is."""

    arms: dict[str, list[tuple[RunRecord, FoldRun]]]
    unfinished: tuple[str, ...]


def _read(folder: Path, order: Sequence[str]) -> _Finished:
    by_arm: dict[str, dict[int, dict[int, RunRecord]]] = {}
    paths: dict[tuple[str, int, int], str] = {}
    unfinished: list[str] = []
    for path in runs_of_experiment(folder):
        if not has_metrics(path) or fold_of(path) is None:
            unfinished.append(str(path.relative_to(folder)))
            continue
        run = read_run(path)
        assert run.fold is not None
        by_arm.setdefault(run.arm, {}).setdefault(run.seed, {})[run.fold] = run
        paths[run.arm, run.seed, run.fold] = str(path.relative_to(folder))
    each = [set(folds) for seeds in by_arm.values() for folds in seeds.values()]
    shared = set.intersection(*each) if each else set()
    if not shared:
        raise InputError(
            f"{folder} has no fold that every arm and seed has finished. Run the "
            "experiment to its end."
        )
    unfinished += [path for key, path in paths.items() if key[-1] not in shared]
    rank = {name: i for i, name in enumerate(order)}
    names = sorted(by_arm, key=lambda name: (rank.get(name, len(rank)), name))
    arms = {
        name: [
            (run, _as_fold(run))
            for _, folds in sorted(by_arm[name].items())
            for number, run in sorted(folds.items())
            if number in shared
        ]
        for name in names
    }
    return _Finished(arms, tuple(unfinished))


def _as_fold(run: RunRecord) -> FoldRun:
    try:
        data = read_toml(run.folder / CONFIG)["data"]
        fold, repeat = int(data["fold"]), int(data["repeat"])
        trained_on = int(run.environment["data"]["sizes"]["train"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{run.folder} does not say its fold and number of training images "
            f"({error!r}). Restore its {CONFIG} and environment.json, or run it again."
        ) from error
    return FoldRun(
        repeat=repeat, fold=fold, seed=run.seed, scored=run.scored,
        trained_on=trained_on,
    )  # fmt: skip


def sentences(result: Mapping[str, Any]) -> list[str]:
    """Describe each arm, and each difference, by AUROC or else by accuracy."""
    lines = []
    for name, arm in result["arms"].items():
        metric, of = _main(arm["metrics"])
        lines.append(
            f"{name}: {metric_title(metric)} {estimate(of).line} over "
            f"{len(of['folds'])} folds (SD {number(of.get('sd')).text}); out of fold "
            f"{estimate(of['out_of_fold']).line}."
        )
    for pair in result["comparisons"]:
        metric, of = _main(pair["metrics"])
        apart = with_test_interval(of["out_of_fold"])
        lines.append(
            f"{pair['a']} − {pair['b']}: {metric_title(metric)} "
            f"{number(of['value'], sign=True).text} {interval(of, sign=True)}, "
            f"p {_equals(of)} by the corrected t; out of fold "
            f"{interval(apart, sign=True)}, p {_equals(apart)}."
        )
    return lines


def _main(metrics: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    defined = metrics.get("auroc", {}).get("value") is not None
    metric = "auroc" if defined else "accuracy"
    return metric, metrics[metric]


def _equals(tested: Mapping[str, Any]) -> str:
    text = format_p(tested.get("p_holm"))
    return text if text.startswith("<") else f"= {text}"


def summary_table(result: Mapping[str, Any]) -> Table:
    """Tabulate the arms: mean over folds with its interval, spread, and out of fold."""
    rows = []
    for name, arm in result["arms"].items():
        for metric, of in arm["metrics"].items():
            title = metric_title(metric) + " ↓" * lower_is_better(metric)
            spread = (number(of.get(part), digits=4) for part in ("sd", "min", "max"))
            pooled = estimate(of["out_of_fold"])
            rows.append((word(name), word(title), estimate(of), *spread, pooled))
    return Table(
        caption=f"Cross-validation, {_folds(result)}",
        head=("arm", "metric", "mean over folds", "SD", "lowest", "highest", "pooled"),
        rows=tuple(rows),
        note="↓ lower is better. Pooled: of the predictions of all folds together.",
    )


def difference_table(result: Mapping[str, Any], pair: Mapping[str, Any]) -> Table:
    """Tabulate the differences of a pair, by both methods."""
    p = "p (Holm)" if len(result["comparisons"]) > 1 else "p"
    rows = []
    for metric, of in pair["metrics"].items():
        title = metric_title(metric) + " ↓" * lower_is_better(metric)
        apart = of["out_of_fold"]
        cells = estimate(of, sign=True), p_cell(of)
        pooled = estimate(with_test_interval(apart), sign=True), p_cell(apart)
        rows.append((word(title), *cells, *pooled, word(TESTS.get(apart["test"], "–"))))
    return Table(
        caption=f"{pair['a']} − {pair['b']}",
        head=("metric", "over folds", f"{p}, corrected t", "pooled", p, "test"),
        rows=tuple(rows),
        note="↓ lower is better.",
    )


def fold_table(result: Mapping[str, Any], metric: str) -> Table:
    """Tabulate a metric by fold and arm."""
    arms = {n: arm["metrics"][metric]["folds"] for n, arm in result["arms"].items()}
    first = next(iter(arms.values()))
    rows = [
        (
            word(f"{entry['repeat']}, {entry['fold']}"),
            number(entry["n"], digits=0),
            *(number(of[i]["value"], digits=4) for of in arms.values()),
        )
        for i, entry in enumerate(first)
    ]
    return Table(
        caption=f"{metric_title(metric)} by fold",
        head=("repeat, fold", "test images", *arms),
        rows=tuple(rows),
        note="Means over seeds.",
    )


def explanations(result: Mapping[str, Any]) -> list[str]:
    """Explain the two kinds of numbers, and their limits."""
    lines = [
        f"{_folds(result)}. Every image is predicted by models that were not trained "
        "on it; threshold, calibration and epoch of a fold were chosen on that fold's "
        "validation images.",
        "Mean over folds: about this way of training, with other training and test "
        "images of these sizes. Folds share most of their training images, so that the "
        "interval and the test are the corrected resampled t of Nadeau and Bengio "
        f"(2003), with n_test / n_train = {result['test_share']:.3g}.",
        "Pooled: about these trained models on other images. The images of a fold are "
        "scored by other models than those of the next, so that an AUROC of all "
        "together also depends on how alike the scales of their scores are.",
    ]
    if "groups" not in result:
        lines.append(INDEPENDENT)
    return lines


def _folds(result: Mapping[str, Any]) -> str:
    repeats = result["repeats"]
    again = f", {repeats} times" if repeats > 1 else ""
    seeds = max(len(arm["seeds"]) for arm in result["arms"].values())
    return f"{result['folds']} folds{again}, {seeds} seed{'s' if seeds > 1 else ''}"


def _facts(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    images = f"{result['n']:,}"
    if "groups" in result:
        images += f" of {result['groups']:,} patients or groups"
    return [
        ("Images", images),
        ("Folds", _folds(result)),
        ("Task", result["task"]),
        ("Fingerprint of ids and labels", result["images"][:16]),
    ]


def _forest(result: Mapping[str, Any], metric: str) -> EmbeddedImage:
    lines = []
    for index, (name, arm) in enumerate(result["arms"].items()):
        of = arm["metrics"][metric]
        values = (fold["value"] for fold in of["folds"])
        lines.append(
            Line(
                name=name,
                index=index,
                value=of["value"],
                low=of["ci_low"],
                high=of["ci_high"],
                seeds=tuple(value for value in values if value is not None),
            )
        )
    title = f"{metric_title(metric)}, mean over folds"
    alt = f"{title}, with intervals and a point for each fold; a table has the numbers."
    return embed_figure(png(draw_forest(lines, title)), alt)
