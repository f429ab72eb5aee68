"""Logits to calibrated probabilities, in one formula for JAX, torch and NumPy.

For programs that run elsewhere: what `probabilities` of the training makes of logits,
averaged over views, and what `Scaling.apply` makes of those. All is done with
logarithms, so that float32 is enough.
"""

import math
from typing import Any

from jaxmed.evaluation.calibration import HIGHEST, LOWEST, Scaling

# What `logits_of` makes of probabilities that float32 rounds to 0 and to 1.
SMALLEST_LOG = math.log(LOWEST)
LARGEST_ODDS = math.log(HIGHEST / (1 - HIGHEST))


def calibrated_probabilities(
    logits: Any, *, task: str, scaling: Scaling | None, xp: Any
) -> tuple[Any, Any]:
    """Computes probabilities after and before calibration.

    Args:
        logits: float32 (views, n, k) of views of n images; (views, n, 1) of a binary
            task with a single logit.
        task: see `jaxmed.data.dataset.Task`.
        scaling: the calibration; None leaves probabilities as they are.
        xp: `jax.numpy`, `torch` or `numpy`, whose array the logits are.

    Returns:
        Two times float32 (n, k), (n, 2) of a binary task: calibrated ones, and those
        before, which thresholds are about.
    """
    if task == "multilabel":
        return _of_labels(logits, scaling, xp)
    if task == "binary" and logits.shape[-1] == 1:
        logs = xp.concatenate([_log_sigmoid(-logits, xp), _log_sigmoid(logits, xp)], -1)
    else:
        logs = logits - _log_sum(logits, xp)
    logs = _log_mean(logs, xp)
    scores = xp.exp(logs)
    if scaling is None:
        return scores, scores
    logs = xp.clip(logs, SMALLEST_LOG, None)
    scale, bias = _numbers(scaling, xp)
    if scaling.method == "platt":
        logit = scale * (logs[:, 1:] - logs[:, :1]) + bias
        both = [_log_sigmoid(-logit, xp), _log_sigmoid(logit, xp)]
        return xp.exp(xp.concatenate(both, -1)), scores
    scaled = scale * logs + bias
    return xp.exp(scaled - _log_sum(scaled, xp)), scores


def _of_labels(logits: Any, scaling: Scaling | None, xp: Any) -> tuple[Any, Any]:
    positive = _log_mean(_log_sigmoid(logits, xp), xp)
    scores = xp.exp(positive)
    if scaling is None:
        return scores, scores
    odds = positive - _log_mean(_log_sigmoid(-logits, xp), xp)
    scale, bias = _numbers(scaling, xp)
    scaled = scale * xp.clip(odds, SMALLEST_LOG, LARGEST_ODDS) + bias
    return xp.exp(_log_sigmoid(scaled, xp)), scores


def _numbers(scaling: Scaling, xp: Any) -> tuple[Any, Any]:
    numbers = (scaling.scale.tolist(), scaling.bias.tolist())
    scale, bias = (xp.asarray(values, dtype=xp.float32) for values in numbers)
    return scale, bias


def _log_sigmoid(logits: Any, xp: Any) -> Any:
    return xp.clip(logits, None, 0) - xp.log1p(xp.exp(-abs(logits)))


def _log_sum(logits: Any, xp: Any) -> Any:
    """The logarithm of the sum of exponentials over the last axis, which is kept."""
    largest = xp.amax(logits, -1)[..., None]
    return largest + xp.log(xp.exp(logits - largest).sum(-1)[..., None])


def _log_mean(logs: Any, xp: Any) -> Any:
    """The logarithm of what is averaged over views."""
    if len(logs) == 1:
        return logs[0]
    return _log_sum(xp.moveaxis(logs, 0, -1), xp)[..., 0] - math.log(len(logs))
