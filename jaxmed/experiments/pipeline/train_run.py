"""One run: an arm trained with one seed, and every file of its folder."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxmed.config.recipes import Recipe
from jaxmed.config.schema import ExperimentConfig
from jaxmed.data.dataset import ON_DISK
from jaxmed.errors import InputError
from jaxmed.experiments.pipeline.evaluate_run import write_results
from jaxmed.experiments.pipeline.explanations import write_cams
from jaxmed.experiments.pipeline.prepare import (
    PreparedArm,
    naming,
    prepare_arm,
)
from jaxmed.experiments.pipeline.sample_images import write_augmented
from jaxmed.runs.detector import write_detector
from jaxmed.runs.environment import describe_environment
from jaxmed.runs.layout import (
    CHECKPOINTS,
    ENVIRONMENT,
    METRICS,
    OUT_OF_DISTRIBUTION,
    PREDICTIONS,
    SKIPPED,
    SPLIT,
    run_folder,
    write_config,
    write_history,
)
from jaxmed.runtime import distributed
from jaxmed.runtime.files import remove_unfinished, write_json
from jaxmed.runtime.locks import locked
from jaxmed.strategies.presets.feature_classifiers import FeatureClassifier

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.evaluation.predictions import Predictions
    from jaxmed.inference.activations import ActivationStore


def train_run(
    recipe: Recipe,
    arm: str,
    seed: int,
    data: "Dataset",
    *,
    full_data: "Dataset",
    out: Path,
    store: "ActivationStore",
) -> None:
    """Train, evaluates and explains; what an interrupted run has done is kept.

    The folder's metrics.json is written last: with it the run is finished. Of several
    processes all train and predict, and the first writes.

    Args:
        recipe: its folders were checked.
        arm, seed: which of its runs.
        data: what the arm's configuration names.
        full_data: the same with all training images, for split.csv and skipped.csv.
        out: the folder of all experiments.
        store: activations of frozen layers, which runs share.

    Raises:
        InputError: the images or the starting weights changed since the run began,
            something in the configuration does not fit them, or another process works
            on the run.
    """
    with _alone(run_folder(out, recipe, arm, seed)):
        _train_run(recipe, arm, seed, data, full_data=full_data, out=out, store=store)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a run's folder; of several processes the first does."""
    with ExitStack() as held:
        distributed.run_on_process_zero(lambda: held.enter_context(locked(folder)))
        yield


def _train_run(
    recipe: Recipe,
    arm: str,
    seed: int,
    data: "Dataset",
    *,
    full_data: "Dataset",
    out: Path,
    store: "ActivationStore",
) -> None:
    folder = run_folder(out, recipe, arm, seed)
    config = recipe.arms[arm]
    print(f"\n{recipe.name}, arm {arm}, seed {seed}: {folder}", flush=True)
    with naming(arm):
        with distributed.raise_on_all():
            prepared = prepare_arm(config, data, seed=seed, out=out)
        environment = _describe(data, prepared)
        environment |= {"tta": config.evaluate.tta, "arms": list(recipe.order)}
        print(prepared.start.note)
        print(prepared.strategy.describe(prepared.model))
        print(f"Computed on {environment['device']}.", flush=True)

        def begin() -> None:
            _check_unchanged(folder, environment)
            remove_unfinished(folder)
            # Of a finished run that is extended, explained otherwise, or lost a file.
            (folder / METRICS).unlink(missing_ok=True)
            write_config(folder, recipe.table(arm, seed))
            _write_inputs(folder, environment, prepared, data, full_data)

        distributed.run_on_process_zero(begin)
        trained = _train(config, prepared, data, folder=folder, store=store)
    environment |= {"best": trained.best, "seconds": trained.seconds}

    def end() -> None:
        write_history(folder, trained.history)
        _write_results(folder, config, prepared, data, trained, environment, store)

    distributed.run_on_process_zero(end)


class _Trained(NamedTuple):
    """What an arm's training gave: see `FitResult`, and predictions by split."""

    predictions: Mapping[str, "Predictions"]
    history: list[dict]
    best: dict
    seconds: float
    evaluation_stage: str | None = None


def _train(
    config: ExperimentConfig,
    prepared: PreparedArm,
    data: "Dataset",
    *,
    folder: Path,
    store: "ActivationStore",
) -> _Trained:
    if isinstance(prepared.strategy, FeatureClassifier):
        from jaxmed.experiments.pipeline.feature_baselines import fit_feature_classifier

        started = time.perf_counter()
        predictions, best = fit_feature_classifier(
            prepared.model,
            data,
            prepared.strategy,
            preprocessing=prepared.training.preprocessing,
            select=config.train.select,
            store=store if config.train.cache != "off" else None,
        )
        print(f"{best['phase']}: {best['metric']} {best['value']:.3f}", flush=True)
        return _Trained(predictions, [], best, time.perf_counter() - started)
    from jaxmed.inference.activations import predict_from
    from jaxmed.inference.forward import predict_split
    from jaxmed.strategies import merge_adapter
    from jaxmed.training.fit import fit

    result = fit(
        prepared.model,
        data,
        prepared.strategy,
        prepared.training,
        cache=replace(prepared.training.cache, folder=folder, store=store),
        checkpoints=folder / CHECKPOINTS,
    )
    # As the model is when it is read from the run's folder. It then rounds otherwise
    # than it did in validation.
    merge_adapter(prepared.model)
    validated = result.val if prepared.strategy.adapter is None else None
    preprocessing, stage = prepared.training.preprocessing, result.evaluation_stage

    def predict(split: str) -> "Predictions":
        if config.evaluate.tta != "none":
            return predict_split(
                prepared.model,
                data,
                split,
                preprocessing=preprocessing,
                views=config.evaluate.tta,
            )
        if split == "val" and validated is not None:
            return validated
        return predict_from(
            stage,
            prepared.model,
            data,
            split,
            preprocessing=preprocessing,
            store=store,
        )

    predictions = {split: predict(split) for split in ("val", "test")}
    seconds = sum(row["seconds"] for row in result.history)
    return _Trained(predictions, result.history, result.best, seconds, stage)


def _describe(data: "Dataset", prepared: PreparedArm) -> dict[str, Any]:
    """Return what environment.json records of an arm before it is trained."""
    from jaxmed.models.parameters import split

    model, start = prepared.model, prepared.start
    total = sum(array.size for array in split(model).params.values())
    return describe_environment(data, model, prepared.training.preprocessing) | {
        "weights": {
            "name": start.name,
            "fingerprint": start.fingerprint,
            "normalization": start.normalization,
        },
        "augmentation": prepared.training.augmentation.describe(),
        "loss": asdict(prepared.training.loss),
        "parameters": {"total": total, "phases": prepared.strategy.summary(model)},
    }


def _write_inputs(
    folder: Path,
    environment: dict[str, Any],
    prepared: PreparedArm,
    data: "Dataset",
    full_data: "Dataset",
) -> None:
    """Write what the run works on and with."""
    from jaxmed.data.splits.split_file import write_skipped, write_split

    if not (folder / SPLIT).is_file():
        write_split(folder / SPLIT, full_data)
    if full_data.skipped:
        write_skipped(folder / SKIPPED, full_data)
    write_json(folder / ENVIRONMENT, environment | {"best": None, "seconds": None})
    write_augmented(
        folder,
        data,
        augmentation=prepared.training.augmentation,
        preprocessing=prepared.training.preprocessing,
    )


def _write_results(
    folder: Path,
    config: ExperimentConfig,
    prepared: PreparedArm,
    data: "Dataset",
    trained: _Trained,
    environment: dict[str, Any],
    store: "ActivationStore",
) -> None:
    """Explain and evaluate predictions."""
    from jaxmed.evaluation.predictions_csv import write_predictions
    from jaxmed.inference.out_of_distribution import fit_detector

    predictions, explain = trained.predictions, config.explain
    if not prepared.strategy.phases:  # then no network decided
        explain = replace(explain, images=0)
    write_predictions(folder / PREDICTIONS, list(predictions.values()))
    write_cams(
        folder,
        prepared.model,
        data.test,
        predictions["test"],
        preprocessing=prepared.training.preprocessing,
        explain=explain,
    )
    if prepared.strategy.phases:
        detector = fit_detector(
            prepared.model,
            data,
            prepared.training.preprocessing,
            # Heads on one frozen backbone share the layers; others have their own.
            store=store if trained.evaluation_stage == "head" else None,
        )
        write_detector(folder / OUT_OF_DISTRIBUTION, detector)
    write_results(folder, config, predictions, environment)


def _check_unchanged(folder: Path, environment: dict[str, Any]) -> None:
    """Refuse to go on with a run on other images or other starting weights."""
    path = folder / ENVIRONMENT
    if not path.is_file():
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for key, noun in (("data", "images"), ("weights", "starting weights")):
        old, new = before[key]["fingerprint"], environment[key]["fingerprint"]
        # Pixels that are resized elsewhere differ by a gray level, so results do too.
        if key == "data" and old.startswith(ON_DISK) != new.startswith(ON_DISK):
            raise InputError(
                f"The run in {folder} began with images {_storage(old)}, and now they "
                f"are {_storage(new)}. Set --data.memory to go on as it began, or give "
                "another --out."
            )
        if old != new:
            raise InputError(
                f"The {noun} changed since the run in {folder} began (fingerprint "
                f"{str(old)[:12]} then, {str(new)[:12]} now). Give another --out, or "
                "delete that folder."
            )


def _storage(fingerprint: str) -> str:
    return "in their files" if fingerprint.startswith(ON_DISK) else "in memory"
