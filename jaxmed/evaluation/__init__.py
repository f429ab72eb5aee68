"""Evaluation: arrays in, numbers out. Knows nothing of models or data sets."""

from jaxmed.evaluation.comparison import arm_summary, paired_difference
from jaxmed.evaluation.evaluate import evaluate
from jaxmed.evaluation.predictions import Predictions
from jaxmed.evaluation.storage import read_predictions, write_predictions

__all__ = [
    "Predictions",
    "arm_summary",
    "evaluate",
    "paired_difference",
    "read_predictions",
    "write_predictions",
]
