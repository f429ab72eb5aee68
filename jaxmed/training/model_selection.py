"""Selection on validation: the best epoch, the end of a phase, averages of weights.

Nothing here sees the test split.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from flax import nnx

from jaxmed.data.dataset import Dataset
from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.metrics.classification import Decisions, default_decisions
from jaxmed.evaluation.metrics.ranking import Ranking
from jaxmed.evaluation.predictions import Predictions
from jaxmed.inference.forward import predict_split
from jaxmed.models.classifier import Classifier
from jaxmed.models.parameters import Arrays, load, split
from jaxmed.strategies import Phase, Strategy

Row = Mapping[str, Any]


def _auroc(predictions: Predictions) -> float | None:
    value = Ranking(predictions).values()[("auroc",)]
    return value if isinstance(value, float) else None


def _auprc(predictions: Predictions) -> float | None:
    from sklearn.metrics import average_precision_score

    truth = predictions.truth
    if not truth.any(axis=0).all():
        return None
    pairs = _known_pairs(predictions, truth, predictions.probs)
    if predictions.task == "binary":
        pairs = pairs[1:]
    return float(np.mean([average_precision_score(*pair) for pair in pairs]))


def _balanced_accuracy(predictions: Predictions) -> float | None:
    value = Decisions(predictions).values()[("balanced_accuracy",)]
    return value if isinstance(value, float) else None


def _decisions(predictions: Predictions) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns labels and decisions, (n,) each: one pair, or one for every label."""
    labels, decided = predictions.labels, default_decisions(predictions)
    if predictions.task != "multilabel":
        return [(labels, decided)]
    return _known_pairs(predictions, labels, decided)


def _known_pairs(
    predictions: Predictions, truth: np.ndarray, outputs: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns by column what is true and what was found, where that label is known."""
    columns = zip(predictions.known.T, truth.T, outputs.T, strict=True)
    return [(true[known], predicted[known]) for known, true, predicted in columns]


def _f1(predictions: Predictions) -> float | None:
    """The mean of F1 over the classes, or the labels."""
    from sklearn.metrics import f1_score

    average: Any = "binary" if predictions.task == "multilabel" else "macro"
    zero: Any = 0
    pairs = _decisions(predictions)
    if any(len(truth) == 0 for truth, _ in pairs):
        return None
    scores = [f1_score(*pair, average=average, zero_division=zero) for pair in pairs]
    return float(np.mean(scores))


def _mcc(predictions: Predictions) -> float | None:
    """Matthews' correlation; if multi-label the mean over the labels."""
    from sklearn.metrics import matthews_corrcoef

    pairs = _decisions(predictions)
    if any(len(np.unique(truth)) < 2 for truth, _ in pairs):
        return None
    return float(np.mean([matthews_corrcoef(*pair) for pair in pairs]))


# Computed after every epoch only where they choose the best one.
_OTHERS: dict[str, Callable[[Predictions], float | None]] = {
    "val_auprc": _auprc,
    "val_balanced_accuracy": _balanced_accuracy,
    "val_f1": _f1,
    "val_mcc": _mcc,
}

# What may choose the best epoch, and whether more of it is better.
SELECTORS = {
    "val_auroc": True,
    "val_accuracy": True,
    "val_loss": False,
    **dict.fromkeys(_OTHERS, True),
}

# Columns that every history has and a "plateau" schedule may watch.
WATCHED = {
    "val_auroc": True,
    "val_accuracy": True,
    "val_loss": False,
    "train_accuracy": True,
    "train_loss": False,
}


def validation_scores(predictions: Predictions, select: str) -> dict[str, float | None]:
    """Returns the AUROC of the validation split and, if another, what selects.

    Args:
        predictions: of the validation split.
        select: one of `SELECTORS`.

    Returns:
        By column of the history; None where the split does not define it.
    """
    scores = {"val_auroc": _auroc(predictions)}
    if select in _OTHERS:
        scores[select] = _OTHERS[select](predictions)
    return scores


def best_row(rows: Sequence[Row], select: str) -> Row:
    """Returns the best epoch of at least one, the earliest of equals."""
    sign = 1 if SELECTORS[select] else -1
    return max(rows, key=lambda row: (sign * row[select], -row["epoch"]))


def is_over(phase: Phase, rows: Sequence[Row], select: str) -> bool:
    """Tells whether a phase has run its epochs, or its patience.

    Args:
        phase: says how many.
        rows: of the history, those of the phase.
        select: the column that must improve.
    """
    if not rows:
        return False
    waited = rows[-1]["epoch"] - best_row(rows, select)["epoch"]
    impatient = phase.patience is not None and waited >= phase.patience
    return impatient or len(rows) >= phase.epochs


def check_defined(data: Dataset, strategy: Strategy, select: str) -> None:
    """Checks that the val split has what chooses epochs and what a plateau watches.

    Whether a metric is defined depends on labels alone, so it is known before anything
    is trained.

    Args:
        data: whose val split.
        strategy: whose plateaus.
        select: one of `SELECTORS`.

    Raises:
        InputError: the split does not define one of them.
    """
    watched = [p.schedule.watch for p in strategy.phases if p.schedule.is_plateau]
    shape = (len(data.val), len(data.class_names))
    predictions = Predictions(
        split="val",
        ids=data.val.ids,
        labels=data.val.labels,
        probs=np.full(shape, 1 / shape[1]),
        class_names=data.class_names,
        task=data.task,
    )
    for column in dict.fromkeys((select, *watched)):
        if validation_scores(predictions, column).get(column, 1.0) is not None:
            continue
        user = "select" if column == select else "the schedule of a plateau"
        raise InputError(
            f"{column}, which {user} goes by, is not defined on the validation split: "
            f"{_lacking(predictions)}. Go by val_loss or val_accuracy, or split the "
            "images otherwise."
        )


def _lacking(predictions: Predictions) -> str:
    """Says which classes have no image, or no other image, in a split."""
    truth, known = predictions.truth, predictions.known
    phrases = []
    for words, present in (
        ("no image of", (truth & known).any(axis=0)),
        ("no image but of", (~truth & known).any(axis=0)),
    ):
        pairs = zip(predictions.class_names, np.atleast_1d(present), strict=True)
        names = [name for name, is_present in pairs if not is_present]
        if names:
            phrases.append(f"{words} {', '.join(names)}")
    return f"it has {' and '.join(phrases)}"


def plateau_factor(phase: Phase, rows: Sequence[Row]) -> float:
    """Returns what a "plateau" schedule has lowered the rates of a phase by."""
    watch = phase.schedule.watch
    return phase.schedule.plateau_factor(
        [row[watch] for row in rows], higher_is_better=WATCHED[watch]
    )


# Averages of weights.

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

    Examples:
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


def _check_alike(first: Arrays, other: Arrays) -> None:
    shapes = [{path: np.shape(a) for path, a in w.items()} for w in (first, other)]
    if shapes[0] != shapes[1]:
        differing = sorted(
            {p for p, _ in set(shapes[0].items()) ^ set(shapes[1].items())}
        )
        raise InputError(
            f"Weights of different networks cannot be averaged; they differ in "
            f"{differing[0]}. Give models of one architecture, classes and head."
        )
