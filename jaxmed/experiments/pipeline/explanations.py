"""Saliency maps of some test images, cams/, and the faithfulness of their method."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.config.schema import ExplainConfig
from jaxmed.errors import InputError
from jaxmed.runs.layout import CAM_INDEX, CAMS, FAITHFULNESS
from jaxmed.runtime.files import atomic_write, write_json

if TYPE_CHECKING:
    from jaxmed.data.dataset import Split
    from jaxmed.evaluation.predictions import Predictions
    from jaxmed.explain.explanation import Explanation
    from jaxmed.models.classifier import Classifier


def check_explanation(
    model: "Classifier", explain: ExplainConfig, image_size: int
) -> None:
    """Check that a model can be explained in the way asked for.

    Raises:
        InputError: a layer that it does not have, that gives no map, or that the method
            does not take; or faithfulness is asked for of no images.
    """
    if explain.faithfulness and not explain.images:
        raise InputError(
            "explain.faithfulness needs images to measure on, and explain.images is 0. "
            "Set --explain.images, or leave faithfulness out."
        )
    if not explain.layer:
        return
    from jaxmed.explain.layer_taps import check_attention, check_layer
    from jaxmed.explain.methods import find_method

    find_method(explain.method, explain.layer)
    check_attention(model, explain.method)
    check_layer(model, explain.layer, image_size)


def write_cams(
    folder: Path,
    model: "Classifier",
    split: "Split",
    predictions: "Predictions",
    *,
    preprocessing: Any,
    explain: ExplainConfig,
) -> None:
    """Draw overlays of the maps and their index, cams.json.

    Args:
        folder: of the run; gets the folder cams/.
        model: trained.
        split: the test images.
        predictions: of the same images, in their order.
        preprocessing: what the model was trained with.
        explain: how many images, and by which method.
    """
    from jaxmed.explain.image_selection import select_images

    # Of an earlier, interrupted attempt.
    shutil.rmtree(folder / CAMS, ignore_errors=True)
    truth, probs, known = predictions.truth, predictions.probs, predictions.known
    # Where the label that is most probable is not known, neither right nor wrong.
    rows = np.flatnonzero(known[np.arange(len(known)), probs.argmax(axis=1)])
    exclusive = predictions.task != "multilabel"
    selected = select_images(
        truth[rows], probs[rows], known[rows], explain.images, exclusive=exclusive
    )
    chosen = rows[np.array(list(selected), int)]
    entries = [
        _entry(predictions, int(index), f"{CAMS}/{number:03d}.png", kinds)
        for number, (index, kinds) in enumerate(
            zip(chosen, selected.values(), strict=True)
        )
    ]
    if len(chosen):
        # Of a multi-label task with one label too, the label is what is explained: a
        # single logit is class 1.
        classes = predictions.probs[chosen].argmax(axis=1)
        classes += predictions.probs.shape[1] == 1
        from jaxmed.inference.preprocessing import as_seen

        images = split.images[chosen]
        explanation = _explain(model, preprocessing(images), classes, explain)
        _draw(folder, entries, as_seen(images, preprocessing), explanation, explain)
        if explain.faithfulness:
            measures = _measure(model, split, predictions, preprocessing, explain)
            write_json(folder / FAITHFULNESS, measures)
    write_json(folder / CAM_INDEX, entries)


def _measure(
    model: "Classifier",
    split: "Split",
    predictions: "Predictions",
    preprocessing: Any,
    explain: ExplainConfig,
) -> dict[str, Any]:
    """Measures the faithfulness of the method on test images drawn at random.

    The images of the pictures will not do: two in three were chosen for their loss or
    their doubt.
    """
    from jaxmed.explain.faithfulness.measure import measure_faithfulness

    order = np.random.default_rng(0).permutation(len(predictions.ids))
    rows = np.sort(order[: explain.images])
    classes = predictions.probs[rows].argmax(axis=1) + (predictions.probs.shape[1] == 1)
    groups = None
    if predictions.groups is not None:
        # An image of an unknown patient counts as a patient of its own.
        groups = [predictions.groups[row] or f"image {row}" for row in rows]
    settings = {"method": explain.method, "layer": explain.layer or None}
    table = settings | {"split": predictions.split}
    try:
        result = measure_faithfulness(
            model,
            preprocessing(split.images[rows]),
            classes,
            groups=groups,
            multilabel=predictions.task == "multilabel",
            **settings,
        )
    except InputError as error:
        # No map is evidence: a finding about the method, and no reason to lose a run.
        return table | {"images": 0, "reason": str(error)}
    drawn = "images" if groups is None else "groups of images"
    return table | {
        "images": result.images,
        "degenerate": result.degenerate,
        "interval": f"percentile bootstrap over {drawn}",
        "metrics": result.metrics,
        "shares": result.shares.tolist(),
        "curves": {name: curve.tolist() for name, curve in result.curves.items()},
        "stages": list(result.stages),
        "randomization": {
            name: [None if np.isnan(value) else value for value in values.tolist()]
            for name, values in result.randomization.items()
        },
    }


def _entry(
    predictions: "Predictions", index: int, file: str, kinds: tuple[str, ...]
) -> dict[str, Any]:
    names = predictions.class_names
    predicted = int(predictions.probs[index].argmax())
    truth = [names[c] for c in np.flatnonzero(predictions.truth[index])]
    return {
        "file": file,
        "kinds": list(kinds),
        "id": predictions.ids[index],
        "split": predictions.split,
        "true": ", ".join(truth) or "none",
        "predicted": names[predicted],
        "probability": float(predictions.probs[index, predicted]),
        "correct": bool(predictions.truth[index, predicted]),
    }


def _explain(
    model: "Classifier", images: Any, classes: np.ndarray, explain: ExplainConfig
) -> "Explanation":
    from jaxmed.explain.explanation import explain as compute_maps

    layer = explain.layer or None
    return compute_maps(model, images, classes, method=explain.method, layer=layer)


def _draw(
    folder: Path,
    entries: list[dict[str, Any]],
    images: np.ndarray,
    explanation: "Explanation",
    explain: ExplainConfig,
) -> None:
    """Write one picture for each map, and in the entries how the map was made.

    A degenerate map leaves its image as it is: it is no evidence for the class.
    """
    from PIL import Image

    from jaxmed.explain.overlay import overlay

    made = {"method": explain.method, "layer": explain.layer or None}
    degenerate, gaps = explanation.degenerate, explanation.completeness_gap
    pairs = zip(entries, images, explanation.maps, strict=True)
    for i, (entry, image, cam) in enumerate(pairs):
        entry |= made | {"degenerate": bool(degenerate[i])}
        entry["note"] = "no evidence" if degenerate[i] else ""
        if gaps is not None:
            # Without a difference between the logits there is no share of it.
            gap = float(gaps[i])
            entry["completeness_gap"] = gap if np.isfinite(gap) else None
        with atomic_write(folder / entry["file"]) as part:
            Image.fromarray(overlay(image, cam)).save(part)
