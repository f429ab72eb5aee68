"""cams/: what the network looked at in some test images."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.experiments.folders import replacing, write_json

if TYPE_CHECKING:
    from jaxmed.data.dataset import Split
    from jaxmed.evaluation.predictions import Predictions
    from jaxmed.models.classifier import Classifier

INDEX = "cams.json"


def write_cams(
    folder: Path,
    model: "Classifier",
    split: "Split",
    predictions: "Predictions",
    *,
    preprocessing: Any,
    images: int,
) -> None:
    """Draws Grad-CAM overlays and their index, cams.json.

    Args:
        folder: of the run; gets the folder cams/.
        model: trained.
        split: the test images.
        predictions: of the same images, in their order.
        preprocessing: what the model was trained with.
        images: how many to draw, right and wrong ones.
    """
    target = folder / "cams"
    # Of an earlier, interrupted attempt.
    shutil.rmtree(target, ignore_errors=True)
    chosen = choose_images(predictions, images)
    classes = predictions.probs.argmax(axis=1)
    entries = []
    for number, index in enumerate(chosen):
        name = f"cams/{number:03d}.png"
        truth = np.flatnonzero(predictions.truth[index])
        entries.append(
            {
                "file": name,
                "id": predictions.ids[index],
                "split": predictions.split,
                "true": ", ".join(predictions.class_names[t] for t in truth) or "none",
                "predicted": predictions.class_names[classes[index]],
                "probability": float(predictions.probs[index, classes[index]]),
                "correct": bool(predictions.truth[index, classes[index]]),
            }
        )
    if chosen:
        raise NotImplementedError
    write_json(target / INDEX, entries)


def choose_images(predictions: "Predictions", count: int) -> list[int]:
    """Chooses right and wrong images, half and half where there are as many of both.

    The same ones every time, and of all classes alike: a fixed shuffle decides.

    Returns:
        At most `count` indices, right ones first.
    """
    order = np.random.default_rng(0).permutation(len(predictions.ids))
    classes = predictions.probs.argmax(axis=1)
    right = predictions.truth[np.arange(len(classes)), classes]
    rights, wrongs = order[right[order]].tolist(), order[~right[order]].tolist()
    half = count // 2
    wrong_count = min(len(wrongs), max(half, count - len(rights)))
    return rights[: count - wrong_count] + wrongs[:wrong_count]
