"""Fine-tuning: a strategy carried out on a data set."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmed.checkpoints.checkpoint import open_checkpoints
from jaxmed.data.dataset import Dataset
from jaxmed.evaluation.predictions import Predictions
from jaxmed.models.classifier import Classifier
from jaxmed.runtime.sharding import Devices, data_mesh
from jaxmed.strategies import Strategy
from jaxmed.training.checks import AnyStrategy, check_phases, prepare_training
from jaxmed.training.config import TrainingConfig
from jaxmed.training.loop import Loop
from jaxmed.training.model_selection import check_defined


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """Result of a training beside the weights.

    Attributes:
        history: a dict per epoch, with the columns of history.csv.
        best: the epoch whose weights the model holds now: "phase", "epoch" (counted
            from 1 over all phases), "metric" and its "value".
        strategy: as it was carried out.
        val: predictions of the validation split by that epoch's weights, as its
            validation made them; None if that was before a resume.
        evaluation_stage: the stage whose cached input `predict_split` can begin with,
            as validation did; None if that was images.
    """

    history: list[dict]
    best: dict
    strategy: Strategy
    val: Predictions | None = None
    evaluation_stage: str | None = None


def fit(
    model: Classifier,
    data: Dataset,
    strategy: AnyStrategy,
    config: TrainingConfig | None = None,
    *,
    checkpoints: Path | str | None = None,
    devices: Devices | None = None,
    **options: Any,
) -> FitResult:
    """Fine-tune a model in place.

    Args:
        model: starts from the weights it holds; ends with those of the best epoch.
            It has a logit per class, or for a binary task a single one. What the
            strategy adds, such as "lora", is in it afterwards, beside the model's own
            parameters; see `jaxmed.strategies.merge_adapter`.
        data: trains on `train` and chooses the best epoch on `val`; `test` is not
            looked at.
        strategy: a preset's name, a strategy, or a function of the model.
        config: options of training; by default their defaults.
        checkpoints: a folder to save every epoch in. If it holds some of the same
            training, that is resumed, and ends as if it had not been stopped.
        devices: by default all there are; the result does not depend on them.
        **options: fields of `TrainingConfig`, such as `batch_size=16`, which replace
            those of `config`.

    Raises:
        InputError: an unknown option or one out of its range, another number of classes
            than the model's, a strategy that does not fit the model, images too small
            for it, a metric to choose by that the validation split does not define, a
            batch of one value per channel for BatchNorm, checkpoints of another
            training, damaged or that cannot be written, or a loss that became infinite
            or not a number.

    Examples:
        >>> import numpy as np
        >>> from jaxmed.data import Dataset, Split
        >>> from jaxmed.models import create_model
        >>> def part(name, count):
        ...     labels = np.arange(count, dtype=np.int32) % 2
        ...     images = np.full((count, 16, 16, 3), 80, np.uint8)
        ...     images[labels == 1] += 80
        ...     ids = tuple(f"{name}/{i}" for i in range(count))
        ...     return Split(images=images, labels=labels, ids=ids)
        >>> data = Dataset(
        ...     name="gray", source="drawn", task="binary", image_size=16,
        ...     class_names=("dark", "light"),
        ...     train=part("train", 8), val=part("val", 4), test=part("test", 4),
        ... )
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> result = fit(model, data, "frozen", batch_size=4)
        >>> result.best["metric"], sorted(result.history[0])[:3]
        ('val_auroc', ['epoch', 'images_per_second', 'lr_head'])
    """
    config, mesh = TrainingConfig.of(config, options), data_mesh(devices)
    strategy, config = prepare_training(model, data, strategy, config, mesh=mesh)
    check_phases(strategy)
    check_defined(data, strategy, config.select)
    with open_checkpoints(Path(checkpoints)) if checkpoints else nullcontext() as saved:
        loop = Loop(model, data, strategy, config, mesh=mesh, checkpoints=saved)
        loop.run()
    log = loop.log
    return FitResult(
        history=log.history,
        best=log.best,
        strategy=strategy,
        val=log.best_predictions(),
        evaluation_stage=loop.evaluation_stage,
    )
