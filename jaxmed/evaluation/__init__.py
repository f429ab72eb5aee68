"""Evaluation: arrays in, numbers out. Knows nothing of models or data sets."""

from jaxmed.evaluation.comparison import arm_summary, paired_difference
from jaxmed.evaluation.contrasts import compare_arms
from jaxmed.evaluation.evaluate import evaluate
from jaxmed.evaluation.predictions import MISSING, Predictions
from jaxmed.evaluation.reliability import reliability
from jaxmed.evaluation.storage import read_predictions, write_predictions
from jaxmed.evaluation.subgroups import evaluate_subgroups
from jaxmed.evaluation.usefulness import decision_curve, risk_coverage

__all__ = [
    "MISSING",
    "Predictions",
    "arm_summary",
    "compare_arms",
    "decision_curve",
    "evaluate",
    "evaluate_subgroups",
    "paired_difference",
    "read_predictions",
    "reliability",
    "risk_coverage",
    "write_predictions",
]
