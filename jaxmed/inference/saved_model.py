"""Predictors: made of a model trained in Python, saved to a folder, loaded again."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.inference.out_of_distribution import fit_detector
from jaxmed.inference.predictor import Predictor
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.runs.ensemble import read_model
from jaxmed.runs.environment import describe_environment
from jaxmed.runs.trained_model import write_trained_model
from jaxmed.strategies.adapter import merged


def make_predictor(
    model: Classifier,
    data: Dataset,
    report: Mapping[str, Any],
    *,
    preprocessing: Preprocessing | None = None,
    views: str = "none",
) -> Predictor:
    """Make a predictor of a model that was trained in Python.

    Args:
        model: trained; what a strategy has added is merged, in a copy.
        data: what it was trained on. At most 1,000 of its training and of its
            validation images fit the out-of-distribution detector.
        report: what `jaxmed.evaluate` returned for the model, with its threshold and
            its calibration.
        preprocessing, views: as given to `predict_split`, if they were.

    Raises:
        InputError: the report is of other classes or of another task.
    """
    for name, value in (("task", data.task), ("class_names", list(data.class_names))):
        if report[name] != value:
            raise InputError(
                f"The report's {name} is {report[name]}, and of {data.source} it is "
                f"{value}. Give the report of this model on these images."
            )
    if preprocessing is None:
        preprocessing = preprocessing_of(
            model, data.image_size, data.resizing, data.window
        )
    model = merged(model)
    return Predictor(
        model=model,
        preprocessing=preprocessing,
        metrics=report,
        environment=describe_environment(data, model, preprocessing),
        views=views,
        detector=fit_detector(model, data, preprocessing),
    )


def save_model(folder: str | Path, predictor: Predictor) -> None:
    """Save a model with all that using it takes.

    The folder has the format of a run's folder: `load_model`, `predict`, `export` and
    `run:FOLDER` as starting weights take both. It holds weights (bit for bit),
    architecture, preprocessing, classes, thresholds, calibration and the statistics of
    the out-of-distribution detector, and no image.

    Args:
        folder: a new one.
        predictor: of `make_predictor` or `load_model`.

    Raises:
        InputError: the folder exists or cannot be written, or the model was not built
            by `jaxmed.create_model`. Nothing is written then.

    Examples:
        >>> import numpy as np
        >>> import jaxmed
        >>> images = np.random.default_rng(0).integers(0, 256, (12, 28, 28), np.uint8)
        >>> arrays = {"images": images, "labels": np.arange(12)[:, None] % 2}
        >>> splits = ("train", "val", "test")
        >>> np.savez("x.npz", **{f"{s}_{k}": arrays[k] for s in splits for k in arrays})
        >>> data = jaxmed.load_dataset("npz:x.npz", image_size=32)
        >>> model = jaxmed.create_model("resnet10_narrow", num_classes=2)
        >>> val, test = (jaxmed.predict_split(model, data, s) for s in ("val", "test"))
        >>> report = jaxmed.evaluate(val, test, resamples=100)
        >>> predictor = jaxmed.make_predictor(model, data, report)
        >>> jaxmed.save_model("my_model", predictor)
        >>> loaded = jaxmed.load_model("my_model")
        >>> images = data.test.images[:2]
        >>> loaded.predict(images) == predictor.predict(images)
        True
    """
    write_trained_model(Path(folder), predictor)


def load_model(folder: str | Path) -> Predictor:
    """Load a model that `save_model` saved, that of a finished run, or an ensemble.

    Args:
        folder: such as "runs/quickstart/frozen/seed-0"; or of an arm, such as
            "runs/quickstart/frozen", whose runs are then an ensemble: probabilities are
            averaged, threshold and calibration chosen on the averages of val.

    Returns:
        A predictor, whose `model` is an `nnx.Module`, for `jaxmed.explain` and the
        like.

    Raises:
        InputError: there is no such folder, its files are damaged, or the runs of an
            arm differ in classes or preprocessing.

    Examples:
        Paths, folders, patterns and arrays are predicted alike::

            predictor = jaxmed.load_model("runs/quickstart/frozen/seed-0")
            for prediction in predictor.predict("scans"):
                print(prediction.id, prediction.decision, prediction.probs)
    """
    trained = read_model(Path(folder))
    return Predictor(**{f.name: getattr(trained, f.name) for f in fields(trained)})
