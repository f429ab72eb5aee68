"""A finished run as a bundle: all that it takes to use its model on new images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.recipes import load_recipe
from jaxmed.config.schema import ExperimentConfig
from jaxmed.errors import InputError
from jaxmed.runs.layout import (
    CONFIG,
    ENVIRONMENT,
    METRICS,
    read_json,
    read_preprocessing,
)
from jaxmed.runtime.locks import holder_of

if TYPE_CHECKING:
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.evaluation.calibration import Scaling
    from jaxmed.models.classifier import Classifier


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """What a finished run found, put together.

    Attributes:
        folder: of the run.
        config: as it was trained.
        model: with the weights of the best epoch, in the precision of the run and
            with BatchNorm in eval mode.
        preprocessing: uint8 images to the model's input.
        views: test-time augmentation by its name in `jaxmed.data.transforms.test_time`.
        task: see `jaxmed.data.dataset.Task`.
        class_names: in the order of the probabilities.
        scaling: the calibration, fitted on val; None if that was not possible.
        thresholds: by class, of probabilities before calibration, chosen on val: of
            the positive class alone in a binary task. None where there is none.
        image_shape: height and width that images had in training before
            `preprocessing`; None if that was not recorded.
        fingerprints: of "data", of the starting "weights" and of "predictions".
        best: the epoch that the weights are of: "phase", "epoch", "metric", "value".
        metrics: the content of metrics.json.
    """

    folder: Path
    config: ExperimentConfig
    model: "Classifier"
    preprocessing: "Preprocessing"
    views: str
    task: str
    class_names: tuple[str, ...]
    scaling: "Scaling | None"
    thresholds: Mapping[str, float | None]
    image_shape: tuple[int, int] | None
    fingerprints: Mapping[str, str | None]
    best: Mapping[str, Any]
    metrics: Mapping[str, Any]


def load_bundle(folder: Path) -> Bundle:
    """Loads a finished run.

    Args:
        folder: of the run, such as runs/quickstart/frozen/seed-0.

    Raises:
        InputError: there is no finished run, or its files are damaged.
    """
    folder = Path(folder)
    _check(folder)
    metrics = read_json(folder / METRICS)
    environment = read_json(folder / ENVIRONMENT)
    preprocessing = read_preprocessing(folder)
    if preprocessing is None:
        raise InputError(
            f"The run {folder} did not record how it prepared images, as early "
            "versions did not. Run it again."
        )
    from jaxmed.evaluation.calibration import read_scaling

    config = load_recipe(folder / CONFIG).base
    try:
        model, best = _load_model(folder, config, metrics, environment, preprocessing)
        data = environment["data"]
        shape = data.get("image_shape")
        return Bundle(
            folder=folder,
            config=config,
            model=model,
            preprocessing=preprocessing,
            views=config.evaluate.tta,
            task=metrics["task"],
            class_names=tuple(metrics["class_names"]),
            scaling=read_scaling(metrics["calibration"]),
            thresholds=read_thresholds(metrics),
            image_shape=None if shape is None else (int(shape[0]), int(shape[1])),
            fingerprints={
                "data": data["fingerprint"],
                "weights": environment["weights"]["fingerprint"],
                "predictions": metrics.get("fingerprint"),
            },
            best=best,
            metrics=metrics,
        )
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{folder}: {METRICS} and {ENVIRONMENT} are not as a run writes them "
            f"({error!r}). Restore them, or delete {METRICS} and run again."
        ) from error


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(f"There is no run folder {folder}.")
    if not (folder / CONFIG).is_file():
        below = sorted(path.parent for path in folder.glob(f"**/seed-*/{CONFIG}"))
        hint = f" Did you mean {below[0]}?" if below else ""
        raise InputError(f"{folder} is no run: there is no {CONFIG} in it.{hint}")
    check_trained(folder)


def check_trained(folder: Path) -> None:
    """Checks that a run got as far as its model can be used.

    Of what `run` writes, this takes what can be shared: no file that names images.

    Raises:
        InputError: it did not, or a file is missing that is always there then.
    """
    if not (folder / METRICS).is_file():
        if holder := holder_of(folder):
            raise InputError(
                f"The run {folder} is not finished: {holder} works on it. Wait for it."
            )
        raise InputError(
            f"The run {folder} is not finished: it has no {METRICS}. `run "
            f"{folder / CONFIG}`, with the same --out, goes on with it."
        )
    for name in (CONFIG, ENVIRONMENT, "checkpoints"):
        if not (folder / name).exists():
            raise InputError(
                f"The run {folder} lacks {name}, which using its model takes. Copy it "
                "too, or run again."
            )


def _load_model(
    folder: Path,
    config: ExperimentConfig,
    metrics: Mapping[str, Any],
    environment: Mapping[str, Any],
    preprocessing: "Preprocessing",
) -> tuple["Classifier", dict[str, Any]]:
    from jaxmed.checkpoints.checkpoint import load_best_weights
    from jaxmed.models.layers.normalization import set_training_norms
    from jaxmed.models.parameters import load
    from jaxmed.models.precision import set_precision
    from jaxmed.models.registry import create_model

    model = create_model(**config.model.arguments(len(metrics["class_names"])))
    arrays, progress = load_best_weights(folder / "checkpoints")
    try:
        load(model, arrays)
    except ValueError as error:
        raise InputError(
            f"The checkpoints of {folder} are not of the model that its {CONFIG} "
            f"describes. {error}"
        ) from error
    model.mean, model.std = preprocessing.mean, preprocessing.std
    set_precision(model, environment.get("precision", "float32"))
    set_training_norms(model, ())
    return model, progress["best"]


def read_thresholds(metrics: Mapping[str, Any]) -> dict[str, float | None]:
    """Reads thresholds by class, see `Bundle`, out of what `evaluate` returned."""
    value = metrics["threshold"]["value"]
    if metrics["task"] == "binary":
        return {metrics["class_names"][1]: value}
    return {name: value[name] for name in metrics["class_names"]}
