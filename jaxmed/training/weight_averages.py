"""Averages of the weights of models: WiSE-FT and uniform soups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxmed.data.dataset import Dataset
from jaxmed.errors import InputError, unknown
from jaxmed.inference.forward import predict_split
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load, split
from jaxmed.training.model_selection import SELECTORS, validation_scores

SHARES = tuple(i / 10 for i in range(11))
# What predictions alone decide.
CHOOSING = tuple(s for s in SELECTORS if s not in ("val_loss", "val_accuracy"))


def uniform_soup(models: Sequence[Classifier]) -> Classifier:
    """Average the weights of models that were fine-tuned from the same weights.

    Wortsman et al., "Model soups", ICML 2022: the uniform soup, of the seeds or the
    settings of an experiment. The average computes in one pass what an ensemble takes
    several for. BatchNorm's statistics are averaged, too, which is only nearly what the
    averaged network sees: a soup of networks with BatchNorm is to be looked at on val.

    Args:
        models: at least one, of one architecture.

    Returns:
        A new model.

    Raises:
        InputError: no models, or of different architectures.

    Example:
        >>> from jaxmed import create_model
        >>> models = [create_model("resnet10_narrow", num_classes=2) for _ in range(2)]
        >>> uniform_soup(models).architecture
        'resnet10_narrow'
    """
    if not models:
        raise InputError("A soup needs at least one model.")
    weights = [_weights_of(model) for model in models]
    for other in weights[1:]:
        _check_alike(weights[0], other)
    soup = nnx.clone(models[0])
    load(
        soup,
        {path: sum(w[path] for w in weights) / len(weights) for path in weights[0]},
    )
    return soup


def wise_ft(
    model: Classifier,
    start: Classifier,
    data: Dataset,
    *,
    shares: Sequence[float] = SHARES,
    select: str = "val_auroc",
    **options: Any,
) -> list[dict[str, float]]:
    """Move a fine-tuned model back towards its start, as far as val is better for it.

    Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR 2022 (WiSE-FT): the
    weights (1 - share) · start + share · fine-tuned, for several shares.

    Args:
        model: fine-tuned; ends with the weights of the best share, the largest of
            equals.
        start: what it was fine-tuned from, with a head that classifies, such as a
            copy made after a linear probe.
        data: whose val split chooses; test is not looked at.
        shares: in [0, 1].
        select: the metric, such as "val_auroc".
        **options: of `jaxmed.predict_split`.

    Returns:
        A dict per share: "share" and the metric. The best one is the first.

    Raises:
        InputError: shares out of their range, models of different architectures, or a
            metric that is unknown, or that the val split does not define.
    """
    if select not in CHOOSING:
        raise unknown("metric to choose by", select, CHOOSING)
    if not len(shares) or not all(0 <= share <= 1 for share in shares):
        raise InputError(f"shares must be numbers in [0, 1], got {list(shares)}.")
    ends = _weights_of(start), _weights_of(model)
    _check_alike(*ends)
    rows = []
    for share in shares:
        _blend(model, *ends, share)
        predictions = predict_split(model, data, "val", **options)
        score = validation_scores(predictions, select)[select]
        if score is None:
            _blend(model, *ends, 1.0)
            raise InputError(f"{select} is not defined on the validation split.")
        rows.append({"share": float(share), select: score})
    sign = 1 if SELECTORS[select] else -1
    rows.sort(key=lambda row: (-sign * row[select], -row["share"]))
    _blend(model, *ends, rows[0]["share"])
    return rows


def _blend(model: Classifier, start: Arrays, end: Arrays, share: float) -> None:
    blend = {path: (1 - share) * start[path] + share * end[path] for path in end}
    load(model, {0.0: start, 1.0: end}.get(share, blend))


def _weights_of(model: Classifier) -> Arrays:
    parts = split(model)
    return parts.params | parts.stats


def _check_alike(one: Arrays, other: Arrays) -> None:
    shapes = [{path: np.shape(a) for path, a in w.items()} for w in (one, other)]
    if shapes[0] != shapes[1]:
        differing = sorted(
            {p for p, _ in set(shapes[0].items()) ^ set(shapes[1].items())}
        )
        raise InputError(
            f"Weights of different networks cannot be averaged; they differ in "
            f"{differing[0]}. Give models of one architecture, classes and head."
        )
