"""likeness.npz: what training images were like, so that `predict` tells others."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.runs.layout import LIKENESS

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.inference.out_of_distribution import OutOfDistributionDetector
    from jaxmed.models.classifier import Classifier

# Training images that are enough to know their features by.
MOST = 10_000


def record_likeness(
    folder: Path, model: "Classifier", data: "Dataset", preprocessing: "Preprocessing"
) -> None:
    """Writes `learn_likeness` to the folder of a run."""
    from jaxmed.inference.out_of_distribution import write_likeness

    write_likeness(folder / LIKENESS, learn_likeness(model, data, preprocessing))


def learn_likeness(
    model: "Classifier", data: "Dataset", preprocessing: "Preprocessing"
) -> "OutOfDistributionDetector":
    """Learns what the pooled features of training and validation images are like.

    Args:
        model: trained.
        data: at most `MOST` of its training images are looked at, drawn by chance but
            always the same ones.
        preprocessing: what the model was trained with.
    """
    from jaxmed.inference.features import compute_features
    from jaxmed.inference.forward import evaluation_batch
    from jaxmed.inference.out_of_distribution import fit_likeness

    train = data.train
    if len(train) > MOST:
        drawn = np.random.default_rng(0).choice(len(train), MOST, replace=False)
        train = train.take(np.sort(drawn))
    found = {
        name: compute_features(
            model,
            split.images,
            preprocessing=preprocessing,
            task=data.task,
            batch_size=evaluation_batch(data),
            description=f"Features of {name}",
        )
        for name, split in (("train", train), ("val", data.val))
    }
    return fit_likeness(found["train"], train.labels, found["val"])
