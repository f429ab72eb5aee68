"""A run's numbers, metrics.json and its card, from its predictions on val and test."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.recipes import Recipe, load_recipe
from jaxmed.config.schema import ExperimentConfig
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.prepare import evaluation_options
from jaxmed.runs.environment import describe_program
from jaxmed.runs.layout import (
    CONFIG,
    ENVIRONMENT,
    METRICS,
    MODEL_CARD,
    PREDICTIONS,
    arm_of,
    fold_of,
    seed_of,
)
from jaxmed.runs.record import RunRecord
from jaxmed.runtime.files import atomic_write, read_json, write_json, write_text
from jaxmed.runtime.locks import locked
from jaxmed.runtime.toml import format_toml

if TYPE_CHECKING:
    from jaxmed.evaluation.predictions import Predictions


def write_results(
    folder: Path,
    config: ExperimentConfig,
    predictions: "Mapping[str, Predictions]",
    environment: Mapping[str, Any],
    *,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Evaluate predictions, and write what a run's folder says of them.

    Nothing is replaced until all is written. metrics.json, with which a run is
    finished, is away while the others are replaced, and gets its name last.

    Args:
        folder: of the run.
        config: of its arm.
        predictions: by split, "val" and "test".
        environment: the content of environment.json, which is written too.
        texts: of other files to replace with these, by name.
    """
    from jaxmed.evaluation.evaluate import evaluate
    from jaxmed.report.text.model_card import card_text

    metrics = {"tta": config.evaluate.tta} | evaluate(
        predictions["val"],
        predictions["test"],
        resamples=config.evaluate.resamples,
        seed=config.evaluate.seed,
        **evaluation_options(config.evaluate),
    )
    seed = seed_of(folder)
    if seed is None:  # renamed
        seed = config.train.seeds[0]
    run = RunRecord(
        folder=folder,
        arm=arm_of(folder),
        fold=fold_of(folder),
        seed=seed,
        metrics=metrics,
        predictions=dict(predictions),
        history=(),
        environment=dict(environment),
        config="",
        cams=(),
    )
    card = card_text(run, config.name, config.description)
    # The first is renamed last.
    with ExitStack() as files:
        write_json(files.enter_context(atomic_write(folder / METRICS)), metrics)
        write_json(files.enter_context(atomic_write(folder / ENVIRONMENT)), environment)
        for name, text in {MODEL_CARD: card, **(texts or {})}.items():
            write_text(files.enter_context(atomic_write(folder / name)), text)
        files.callback((folder / METRICS).unlink, missing_ok=True)


def reevaluate(folder: Path, recipe: Recipe | None = None) -> None:
    """Make a trained run's numbers anew from its stored predictions.

    Neither images nor the model are needed.

    Args:
        folder: of the run.
        recipe: the run's, if its [evaluate] is another one than when it was trained;
            config.toml then says so. All else must be the same.

    Raises:
        InputError: a file is missing or damaged, predictions.csv is not what
            metrics.json was computed from, or another process works on the run.
    """
    from jaxmed.evaluation.predictions import check_fingerprint
    from jaxmed.evaluation.predictions_csv import read_predictions

    with locked(folder):
        run_recipe = recipe or load_recipe(folder / CONFIG)
        ((arm, seed),) = run_recipe.runs
        environment = read_json(folder / ENVIRONMENT)
        metrics = folder / METRICS
        before = read_json(metrics) if metrics.is_file() else None
        path = folder / PREDICTIONS
        try:
            data = environment["data"]
            names, task = tuple(data["class_names"]), data["task"]
            # Until an epoch was chosen, predictions are of an earlier training.
            trained = environment["best"] is not None
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{folder / ENVIRONMENT} is not as a run writes it ({error!r}). "
                "Restore it, or run again."
            ) from error
        if not path.is_file() or not trained:
            raise InputError(
                f"The run {folder} has no predictions yet: it is not trained to its "
                f"end. `run {folder / CONFIG}`, with the same --out, goes on with it."
            )
        predictions = read_predictions(path, class_names=names, task=task)
        for split in ("val", "test"):
            if split not in predictions:
                raise InputError(f"{path} has no predictions on {split}. Restore it.")
        if before is not None:
            check_fingerprint(predictions.values(), before["fingerprint"], str(path))
        write_results(
            folder,
            run_recipe.arms[arm],
            predictions,
            environment | {"evaluated_by": describe_program()},
            texts=recipe and {CONFIG: format_toml(recipe.table(arm, seed))},
        )
