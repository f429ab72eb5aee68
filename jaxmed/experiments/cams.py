"""cams/: what the network looked at in some test images."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.experiments.folders import write_json
from jaxmed.files import replacing

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
        images: how many to draw, right ones and then wrong ones.
    """
    from jaxmed.explain.select import select_images

    target = folder / "cams"
    # Of an earlier, interrupted attempt.
    shutil.rmtree(target, ignore_errors=True)
    truth, probs, known = predictions.truth, predictions.probs, predictions.known
    # Where the label that is most probable is not known, neither right nor wrong.
    rows = np.flatnonzero(known[np.arange(len(known)), probs.argmax(axis=1)])
    right, wrong = select_images(truth[rows], probs[rows], images)
    chosen = rows[np.concatenate([right, wrong]).astype(int)]
    entries = [
        _entry(predictions, int(index), f"cams/{number:03d}.png")
        for number, index in enumerate(chosen)
    ]
    if len(chosen):
        # Of a multi-label task with one label too, the label is what is explained: to
        # Grad-CAM a single logit is class 1.
        classes = predictions.probs[chosen].argmax(axis=1)
        classes += predictions.probs.shape[1] == 1
        _draw(folder, entries, model, split.images[chosen], classes, preprocessing)
    write_json(target / INDEX, entries)


def _entry(predictions: "Predictions", index: int, file: str) -> dict[str, Any]:
    names = predictions.class_names
    predicted = int(predictions.probs[index].argmax())
    truth = [names[c] for c in np.flatnonzero(predictions.truth[index])]
    return {
        "file": file,
        "id": predictions.ids[index],
        "split": predictions.split,
        "true": ", ".join(truth) or "none",
        "predicted": names[predicted],
        "probability": float(predictions.probs[index, predicted]),
        "correct": bool(predictions.truth[index, predicted]),
    }


def _draw(
    folder: Path,
    entries: list[dict[str, Any]],
    model: "Classifier",
    images: np.ndarray,
    classes: np.ndarray,
    preprocessing: Any,
) -> None:
    """Explains the predicted class of each image, and writes one picture for each."""
    import jax.numpy as jnp
    from PIL import Image

    from jaxmed.explain.gradcam import grad_cam
    from jaxmed.explain.overlay import overlay

    maps = grad_cam(model, preprocessing(images), classes, description="Grad-CAM")
    if preprocessing.resizing.mode != "squash":
        # What a map is of: without what is cropped, and with what is padded.
        seen = np.asarray(preprocessing.resize(jnp.asarray(images)))
        images = np.rint(seen).clip(0, 255).astype(np.uint8)
    for entry, image, cam in zip(entries, images, maps, strict=True):
        with replacing(folder / entry["file"]) as part:
            Image.fromarray(overlay(image, cam)).save(part)
