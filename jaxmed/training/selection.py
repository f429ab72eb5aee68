"""Which epoch is best, and when a phase is over: functions of the history alone.

Nothing here sees the test split.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.ranking import Ranking
from jaxmed.strategies import Phase

Row = Mapping[str, Any]


def _auroc(predictions: Predictions) -> float | None:
    value = Ranking(predictions).values()[("auroc",)]
    return value if isinstance(value, float) else None


def _auprc(predictions: Predictions) -> float | None:
    from sklearn.metrics import average_precision_score

    truth = predictions.truth
    if not truth.any(axis=0).all():
        return None
    probs = predictions.probs
    if predictions.task == "binary":
        truth, probs = truth[:, 1], probs[:, 1]
    return float(average_precision_score(truth, probs, average="macro"))


def _decided(score: str, **options: Any) -> Callable[[Predictions], float | None]:
    """Makes a metric of the decisions from scikit-learn's function of that name."""

    def compute(predictions: Predictions) -> float | None:
        from sklearn import metrics

        from jaxmed.evaluation.metrics import decide

        return float(
            getattr(metrics, score)(predictions.labels, decide(predictions), **options)
        )

    return compute


# Computed after every epoch only where they choose the best one.
_OTHERS: dict[str, Callable[[Predictions], float | None]] = {
    "val_auprc": _auprc,
    "val_balanced_accuracy": _decided("balanced_accuracy_score"),
    "val_f1": _decided("f1_score", average="macro", zero_division=0),
    "val_mcc": _decided("matthews_corrcoef"),
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


def plateau_factor(phase: Phase, rows: Sequence[Row]) -> float:
    """Returns what a "plateau" schedule has lowered the rates of a phase by."""
    watch = phase.schedule.watch
    return phase.schedule.plateau_factor(
        [row[watch] for row in rows], higher_is_better=WATCHED[watch]
    )
