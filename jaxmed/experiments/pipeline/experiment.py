"""An experiment: the recipes it needs, then all its arms and seeds, then the report."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmed.config.recipes import Recipe
from jaxmed.config.schema import ExperimentConfig
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.evaluate_run import reevaluate
from jaxmed.experiments.pipeline.load_data import Datasets, without_subset
from jaxmed.experiments.pipeline.prepare import check_arm, naming, prepare_arm
from jaxmed.experiments.pipeline.reporting import rebuild_report
from jaxmed.experiments.pipeline.sample_images import write_samples
from jaxmed.experiments.pipeline.train_run import train_run
from jaxmed.experiments.pipeline.weights import RUN, check_classes
from jaxmed.runs.layout import CHECKPOINTS, experiment_folder, is_finished, run_folder
from jaxmed.runs.work import (
    Work,
    check_folders,
    describe_change,
    is_extended,
    work_left,
)
from jaxmed.runtime import distributed

if TYPE_CHECKING:
    from jaxmed.inference.activations import ActivationStore


def run_recipes(recipes: Sequence[Recipe], out: Path, *, extend: bool = False) -> Path:
    """Run recipes in order.

    Everything that can be wrong is checked for all of them before the first is
    trained and before anything is written. Finished runs are skipped.

    Args:
        recipes: each after those it needs.
        out: the folder of all experiments.
        extend: whether finished runs go on, where the last recipe asks for more epochs
            than they had.

    Returns:
        The path of the last recipe's report.

    Raises:
        InputError: see `check_recipes`.
    """
    datasets = Datasets()
    check_together(recipes, out, datasets, extend=extend)
    report = None
    for recipe in recipes:
        train_recipe(recipe, out, datasets)
        report = distributed.run_on_process_zero(
            lambda recipe=recipe: write_report(recipe, out, datasets)
        )
    assert report, "at least one recipe is run"
    return Path(report)


def check_together(
    recipes: Sequence[Recipe], out: Path, datasets: Datasets, *, extend: bool = False
) -> None:
    """Check recipes as `check_recipes` does, in all processes.

    Raises:
        InputError: as there, or the processes see different things.
    """
    with distributed.raise_on_all():
        check_recipes(recipes, out, datasets, extend=extend)
    distributed.check_same(
        _describe(recipes, datasets, out),
        "The processes do not see the same: recipe, images, or finished runs in "
        f"{out}. All need the same command, the same images and the same --out, in a "
        "folder that they share.",
    )


def train_recipe(recipe: Recipe, out: Path, datasets: Datasets) -> None:
    """Make the runs of a recipe that was checked, but for finished ones.

    Of a finished run whose [evaluate] or [explain] is another one now, that alone is
    done again. One whose strategy has other options, which the check let pass only to
    be extended, is trained on.
    """
    store = None
    for part, arm, seed in _each_run(recipe):
        cell = part.only(arm, seed)
        work, message = distributed.run_on_process_zero(partial(_plan, cell, out))
        print(message, end="", flush=True)
        if work == "evaluation":
            folder = run_folder(out, part, arm, seed)
            distributed.run_on_process_zero(partial(reevaluate, folder, cell))
        elif work == "images":
            config = part.arms[arm].data
            with distributed.raise_on_all():
                datasets.add(config)
            data, full_data = datasets[config], datasets[without_subset(config)]
            store = store or _new_store(recipe)
            train_run(part, arm, seed, data, full_data=full_data, out=out, store=store)


def _each_run(recipe: Recipe) -> Iterator[tuple[Recipe, str, int]]:
    """Yield every run of a recipe: the recipe of its fold, its arm and its seed."""
    for part in recipe.folds:
        for arm, seed in part.runs:
            yield part, arm, seed


def _new_store(recipe: Recipe) -> "ActivationStore":
    """Make the store that all runs of a recipe share, as large as an arm wants it."""
    from jaxmed.inference.activations import ActivationStore

    training = [config.train for config in recipe.arms.values()]
    return ActivationStore(
        memory=max(train.cache_memory for train in training),
        disk=max(train.cache_disk for train in training),
    )


def _plan(recipe: Recipe, out: Path) -> tuple[Work, str]:
    """Return what the only run of a recipe needs, and the lines to say first."""
    ((arm, seed),) = recipe.runs
    folder, table = run_folder(out, recipe, arm, seed), recipe.table(arm, seed)
    work = work_left(folder, table)
    if work == "none":
        return work, f"Finished already, skipped: {folder}\n"
    if not is_finished(folder):
        return work, ""
    change = describe_change(folder, table)
    if work == "evaluation":
        action = "only evaluated again"
    elif is_extended(folder, table):
        action = "now extended"
    else:
        action = "not trained again"
    return work, f"Trained already, {action}: {folder}; {change}\n"


def write_report(recipe: Recipe, out: Path, datasets: Datasets) -> str:
    """Write an experiment's figures and report, and return its path."""
    folder = experiment_folder(out, recipe.name)
    shown = [fold.base.data for fold in recipe.folds if fold.base.data in datasets]
    if shown:
        write_samples(folder, datasets[shown[0]])
    return str(rebuild_report(folder))


def _describe(recipes: Sequence[Recipe], datasets: Datasets, out: Path) -> str:
    """Return all that processes which train together must have in common."""
    if not distributed.is_multiprocess():
        return ""
    runs = [
        (table, work_left(run_folder(out, part, arm, seed), table))
        for recipe in recipes
        for part, arm, seed in _each_run(recipe)
        for table in (part.table(arm, seed),)
    ]
    return repr((runs, [data.fingerprint for data in datasets.values()]))


def check_settings(
    recipes: Sequence[Recipe], out: Path, *, extend: bool = False
) -> None:
    """Check what can be checked without images and without weights.

    Raises:
        InputError: folders hold something else, or settings do not hold together.
    """
    for recipe in recipes:
        for part in recipe.folds:
            check_folders(out, part, extend=extend)
    for recipe in recipes:
        for arm, config in recipe.arms.items():
            check_arm(config, arm)


def check_recipes(
    recipes: Sequence[Recipe], out: Path, datasets: Datasets, *, extend: bool = False
) -> None:
    """Check folders, settings, images, weights and strategies of all recipes.

    Args:
        recipes: each after those it needs.
        out: the folder of all experiments.
        datasets: those that runs need, and are not there yet, are added.
        extend: whether finished runs may go on.

    Raises:
        InputError: something the recipes name is not there or does not fit.
    """
    check_settings(recipes, out, extend=extend)
    planned: dict[Path, ExperimentConfig] = {}
    for recipe in recipes:
        fits: set[str] = set()
        for part in recipe.folds:
            for arm, config in part.arms.items():
                todo = [
                    seed
                    for seed in config.train.seeds
                    if _needs_images(part, arm, seed, out)
                ]
                longer = [
                    folder
                    for seed in todo
                    for folder in (run_folder(out, part, arm, seed),)
                    if is_extended(folder, part.table(arm, seed))
                ]
                # What fits one fold fits the others.
                if todo and (arm not in fits or longer):
                    with naming(arm):
                        _check_fit(config, datasets, planned, out, longer)
                    fits.add(arm)
                planned |= {run_folder(out, part, arm, seed): config for seed in todo}


def _needs_images(recipe: Recipe, arm: str, seed: int, out: Path) -> bool:
    folder = run_folder(out, recipe, arm, seed)
    return work_left(folder, recipe.table(arm, seed)) == "images"


def _check_fit(
    config: ExperimentConfig,
    datasets: Datasets,
    planned: dict[Path, ExperimentConfig],
    out: Path,
    longer: Sequence[Path],
) -> None:
    """Load an arm's images and prepare it on shapes, to find what does not fit.

    Args:
        config: of the arm.
        datasets: its images are added.
        planned: the configurations of earlier runs that are not there yet.
        out: the folder of all experiments.
        longer: folders of finished runs that are to go on.
    """
    datasets.add(config.data)
    model = config.model
    earlier = planned.get(out / model.weights.removeprefix(RUN))
    if model.weights.startswith(RUN) and earlier:
        # Its weights are not there yet; what they will be is known.
        if earlier.model.backbone != model.backbone:
            raise InputError(
                f"weights {model.weights!r} will be of a {earlier.model.backbone}, and "
                f"model.backbone is {model.backbone}; they must be the same."
            )
        if earlier.model.in_channels != model.in_channels:
            raise InputError(
                f"weights {model.weights!r} will be for {earlier.model.in_channels} "
                f"channels, and model.in_channels is {model.in_channels}; they must be "
                "the same."
            )
        if model.keep_head:
            _check_head(config, earlier, datasets)
        fresh = replace(model, weights="none", stem="auto", keep_head=False)
        config = replace(config, model=fresh)
    from jaxmed.training.log import check_extension
    from jaxmed.training.model_selection import check_defined

    seed, data = config.train.seeds[0], datasets[config.data]
    prepared = prepare_arm(config, data, seed=seed, out=out, abstract=True)
    check_defined(data, prepared.strategy, config.train.select)
    for folder in longer:
        check_extension(folder / CHECKPOINTS, prepared.strategy)


def _check_head(
    config: ExperimentConfig, earlier: ExperimentConfig, datasets: Datasets
) -> None:
    """Check that an arm can go on with the head that an earlier one will have."""
    for name in ("head", "hidden_features", "single_logit"):
        ours, theirs = getattr(config.model, name), getattr(earlier.model, name)
        if ours != theirs:
            raise InputError(
                f"model.keep_head: {config.model.weights} will have model.{name} "
                f"{theirs}, and here it is {ours}; they must be the same."
            )
    check_classes(
        config.model.weights,
        datasets[earlier.data].class_names,
        datasets[config.data].class_names,
    )
