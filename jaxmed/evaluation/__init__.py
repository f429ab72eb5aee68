"""Evaluation: metrics, intervals, thresholds, calibration, comparison."""

from jaxmed.evaluation.comparison.arms import compare_arms
from jaxmed.evaluation.comparison.paired import arm_summary, paired_difference
from jaxmed.evaluation.evaluate import evaluate
from jaxmed.evaluation.metrics.calibration_error import reliability
from jaxmed.evaluation.metrics.decision_curve import decision_curve, risk_coverage
from jaxmed.evaluation.patients import aggregate_patients
from jaxmed.evaluation.predictions import MISSING, Predictions
from jaxmed.evaluation.predictions_csv import read_predictions, write_predictions
from jaxmed.evaluation.subgroups import evaluate_subgroups

__all__ = [
    "MISSING",
    "Predictions",
    "aggregate_patients",
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
