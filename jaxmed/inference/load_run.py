"""Where predictors come from: a finished run, or a model trained in Python."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxmed.data.dataset import Dataset
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.evaluation.calibration import read_scaling
from jaxmed.inference.out_of_distribution import fit_detector, read_detector
from jaxmed.inference.predictor import Predictor
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.classifier import Classifier
from jaxmed.runs.layout import OUT_OF_DISTRIBUTION
from jaxmed.runs.trained_model import load_bundle, read_thresholds


def load_run(folder: str | Path) -> Predictor:
    """Loads a finished run to predict new images with.

    Args:
        folder: of the run, such as "runs/quickstart/frozen/seed-0".

    Raises:
        InputError: there is no finished run, or its files are damaged.

    Example:
        Paths, folders, patterns and arrays are predicted alike::

            run = jaxmed.load_run("runs/quickstart/frozen/seed-0")
            for prediction in run.predict("scans"):
                print(prediction.id, prediction.decision, prediction.probs)
    """
    bundle = load_bundle(Path(folder))
    path = bundle.folder / OUT_OF_DISTRIBUTION
    return Predictor(
        model=bundle.model,
        preprocessing=bundle.preprocessing,
        task=bundle.task,
        class_names=bundle.class_names,
        scaling=bundle.scaling,
        thresholds=bundle.thresholds,
        views=bundle.views,
        image_shape=bundle.image_shape,
        detector=read_detector(path) if path.is_file() else None,
        method=bundle.config.explain.method,
        layer=bundle.config.explain.layer or None,
    )


def make_predictor(
    model: Classifier,
    data: Dataset,
    report: Mapping[str, Any],
    *,
    preprocessing: Preprocessing | None = None,
    views: str = "none",
) -> Predictor:
    """Makes a predictor of a model that was trained in Python.

    Args:
        model: trained.
        data: what it was trained on, at most 10,000 of whose training images, and the
            validation images, fit the out-of-distribution detector.
        report: what `jaxmed.evaluate` said of the model, with its threshold and its
            calibration.
        preprocessing, views: as given to `predict_split`, if they were.

    Raises:
        InputError: the report is of other classes or of another task.
    """
    for name, own in (("task", data.task), ("class_names", list(data.class_names))):
        if report[name] != own:
            raise InputError(
                f"The report's {name} is {report[name]}, and of {data.source} it is "
                f"{own}. Give the report of this model on these images."
            )
    if preprocessing is None:
        preprocessing = preprocessing_of(
            model, data.image_size, data.resizing, data.window
        )
    height, width = data.train.images.shape[1:3]
    return Predictor(
        model=model,
        preprocessing=preprocessing,
        task=data.task,
        class_names=data.class_names,
        scaling=read_scaling(report["calibration"]),
        thresholds=read_thresholds(report),
        views=views,
        image_shape=(height, width),
        detector=fit_detector(model, data, preprocessing),
    )
