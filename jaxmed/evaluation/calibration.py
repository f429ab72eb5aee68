"""Calibration: a scaling of the logits, fitted on validation."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logsumexp, softmax

from jaxmed.errors import InputError, unknown
from jaxmed.evaluation.intervals.estimate import Undefined
from jaxmed.evaluation.metrics.counts import ONE_CLASS
from jaxmed.evaluation.predictions import Predictions

TASKS_OF = {
    "temperature": ("binary", "multiclass", "multilabel", "ordinal"),
    "vector": ("multiclass", "ordinal"),
    "platt": ("binary", "multilabel"),
}
# A model that is always right on validation has no best temperature: the colder the
# better. The bounds keep what is stored finite.
TEMPERATURES = (0.05, 20.0)
BIASES = (-20.0, 20.0)
AT_AN_END = (
    "at the end of the search, not at the least log loss: on val, {} extreme "
    "probabilities are always better"
)
# The smallest normal float32, and half a step below one: softmax in float32 gives 0
# and 1 beyond them.
LOWEST = float(np.finfo(np.float32).tiny)
HIGHEST = 1 - 2.0**-25


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaling:
    """Calibrated logits are `scale * logits + bias`.

    Attributes:
        method: "temperature", "vector" or "platt".
        scale: float64 (1,), 1 / temperature; or (k,).
        bias: float64, of the same shape. In a binary task "platt" has one scale and
            one bias, of the logit of the positive class.
    """

    method: str
    scale: np.ndarray
    bias: np.ndarray

    @property
    def temperature(self) -> float | None:
        """Return the temperature; None for another method."""
        return float(1 / self.scale[0]) if self.method == "temperature" else None

    def apply(self, predictions: Predictions) -> np.ndarray:
        """Compute calibrated probabilities: float64 (n, k)."""
        return self.calibrate(predictions.probs, predictions.task)

    def calibrate(self, probs: np.ndarray, task: str) -> np.ndarray:
        """Compute calibrated probabilities of images whose labels need not be known.

        Args:
            probs: (n, k), before calibration.
            task: see `Predictions`.

        Returns:
            float64 (n, k).
        """
        logits = logits_from(probs, task)
        if task == "multilabel":
            return expit(self.scale * logits + self.bias)
        if self.method == "platt":
            logit = self.scale * (logits[:, 1:] - logits[:, :1]) + self.bias
            return expit(np.concatenate([-logit, logit], axis=1))
        return np.exp(log_softmax(self.scale * logits + self.bias, axis=1))

    def describe(self) -> dict[str, Any]:
        """Return its numbers for metrics.json, with a "note" at the end of a search.

        There the log loss is not the least, but the least within these ends.
        """
        if self.temperature is not None:
            description = {"method": self.method, "temperature": self.temperature}
        else:
            numbers = {"scale": self.scale.tolist(), "bias": self.bias.tolist()}
            description = {"method": self.method} | numbers
        if self.method == "platt":
            return description
        ends = [1 / temperature for temperature in TEMPERATURES]
        at = [bool(np.isclose(self.scale, end, rtol=1e-6).any()) for end in ends]
        if any(at):
            description["note"] = AT_AN_END.format("more" if at[0] else "less")
        return description


def read_scaling(described: Mapping[str, Any]) -> Scaling | None:
    """Rebuild a scaling from the result of `Scaling.describe`.

    Args:
        described: "calibration" of metrics.json.

    Returns:
        None where none could be fitted.

    Raises:
        KeyError, TypeError or ValueError: it is not what `describe` gives.
    """
    # Before there was another method, it was not said.
    method = described.get("method", "temperature")
    if "reason" in described or described.get("temperature", 1.0) is None:
        return None
    if method == "temperature":
        scale = np.array([1 / described["temperature"]])
        return Scaling(method=method, scale=scale, bias=np.zeros(1))
    scale, bias = (np.array(described[name], float) for name in ("scale", "bias"))
    return Scaling(method=method, scale=scale, bias=bias)


def logits_of(predictions: Predictions) -> np.ndarray:
    """Recover logits (n, k) of predictions, see `logits_from`."""
    return logits_from(predictions.probs, predictions.task)


def logits_from(probs: np.ndarray, task: str) -> np.ndarray:
    """Recover logits (n, k) from probabilities, up to a constant per image.

    They are the logarithms of the probabilities, or log(p / (1 - p)) in multilabel
    tasks. Probabilities that float32 rounded to 0 count as 1e-38.
    """
    if task == "multilabel":
        probs = np.clip(np.asarray(probs, np.float64), LOWEST, HIGHEST)
        return np.log(probs) - np.log1p(-probs)
    return np.log(np.maximum(np.asarray(probs, np.float64), LOWEST))


def check_calibration(method: str, task: str) -> None:
    """Check that a method is known and is for the task.

    Raises:
        InputError: it is not.
    """
    if method not in TASKS_OF:
        raise unknown("calibration", method, TASKS_OF)
    if task not in TASKS_OF[method]:
        fitting = [name for name, tasks in TASKS_OF.items() if task in tasks]
        raise InputError(
            f"The calibration {method!r} is for {' and '.join(TASKS_OF[method])} "
            f"tasks, not for a {task} one. Use {' or '.join(fitting)}."
        )


def fit_scaling(
    predictions: Predictions, method: str = "temperature"
) -> Scaling | Undefined:
    """Fit a scaling that minimizes the log loss.

    Args:
        predictions: of the validation split.
        method: "temperature": softmax(logits / T), or sigmoid(logits / T) with one
            temperature for all labels (Guo et al., "On Calibration of Modern Neural
            Networks", ICML 2017, section 4.2); T is within `TEMPERATURES`. "vector": a
            scale and a bias per class (there too; scales within the inverse of
            `TEMPERATURES`, biases within `BIASES`). "platt": a scale and a bias of the
            logit, or of each label's (Platt, "Probabilistic Outputs for Support Vector
            Machines", 1999).

    Returns:
        The scaling; undefined if all images are of one class.

    Raises:
        InputError: the method is unknown, or not for the task.

    Examples:
        >>> from jaxmed.evaluation import Predictions
        >>> scores = np.array([0.01, 0.02, 0.97, 0.05, 0.98, 0.99])
        >>> val = Predictions(
        ...     split="val",
        ...     ids=tuple("abcdef"),
        ...     labels=np.array([0, 0, 0, 1, 1, 1]),
        ...     probs=np.stack([1 - scores, scores], axis=1),
        ...     class_names=("normal", "pneumonia"),
        ...     task="binary",
        ... )
        >>> scaling = fit_scaling(val)  # overconfident: the temperature is above 1
        >>> round(scaling.temperature, 2)
        4.08
        >>> scaling.apply(val)[2].round(2)  # 0.03 and 0.97 before
        array([0.3, 0.7])
    """
    check_calibration(method, predictions.task)
    known = predictions.labels[predictions.known] if _multilabel(predictions) else None
    labels = predictions.labels if known is None else known
    if not len(labels) or (labels == labels[0]).all():
        return ONE_CLASS
    fit = {"temperature": _temperature, "vector": _vector, "platt": _platt}[method]
    scale, bias = fit(predictions)
    return Scaling(method=method, scale=scale, bias=bias)


def _multilabel(predictions: Predictions) -> bool:
    return predictions.task == "multilabel"


def _temperature(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    logits, truth = logits_of(predictions), predictions.truth
    signed = np.where(truth, logits, -logits)[predictions.known]

    def loss(log_temperature: float) -> float:
        inverse = np.exp(-log_temperature)
        if _multilabel(predictions):
            return float(np.logaddexp(0, -signed * inverse).mean())
        scaled = logits * inverse
        return float((logsumexp(scaled, axis=1) - scaled[truth]).mean())

    bounds = np.log(TEMPERATURES)
    optimum = minimize_scalar(
        loss, bounds=bounds, method="bounded", options={"xatol": 1e-9}
    )
    # The search does not try the bounds themselves.
    candidates = [float(optimum.x), *map(float, bounds)]
    inverse = float(np.exp(-min(candidates, key=loss)))
    return np.array([inverse]), np.zeros(1)


def _vector(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    logits, truth = logits_of(predictions), predictions.truth
    n, k = logits.shape

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = numbers[:k] * logits + numbers[k:]
        errors = (softmax(scaled, axis=1) - truth) / n
        value = (logsumexp(scaled, axis=1) - scaled[truth]).mean()
        return value, np.append((errors * logits).sum(axis=0), errors.sum(axis=0))

    scales = tuple(1 / temperature for temperature in reversed(TEMPERATURES))
    optimum = minimize(
        loss,
        np.append(np.ones(k), np.zeros(k)),
        jac=True,
        method="L-BFGS-B",
        bounds=[scales] * k + [BIASES] * k,
        options={"maxiter": 1000, "ftol": 1e-15, "gtol": 1e-9},
    )
    # A bias added to all classes changes nothing; the sum of these is 0.
    return optimum.x[:k], optimum.x[k:] - optimum.x[k:].mean()


def _platt(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    logits = logits_of(predictions)
    if not _multilabel(predictions):
        logits = logits[:, 1:] - logits[:, :1]
    first = 0 if _multilabel(predictions) else 1
    truth, known = predictions.truth[:, first:], predictions.known[:, first:]
    pairs = [
        _fit_sigmoid(logits[known[:, i], i], truth[known[:, i], i])
        for i in range(logits.shape[1])
    ]
    scale, bias = np.array(pairs).T
    return scale, bias


def _fit_sigmoid(logits: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Fit sigmoid(scale * logit + bias); the identity if all are of one class.

    The targets are Platt's, a little inside of 0 and 1, so that the best scale is
    finite also where one threshold separates the classes.
    """
    positives, negatives = truth.sum(), (~truth).sum()
    if not positives or not negatives:
        return 1.0, 0.0
    high, low = (positives + 1) / (positives + 2), 1 / (negatives + 2)
    targets = np.where(truth, high, low)

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        scaled = numbers[0] * logits + numbers[1]
        value = (np.logaddexp(0, scaled) - targets * scaled).mean()
        errors = (expit(scaled) - targets) / len(logits)
        return value, np.array([(errors * logits).sum(), errors.sum()])

    options = {"maxiter": 1000, "gtol": 1e-10}
    optimum = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="BFGS", options=options
    )
    return float(optimum.x[0]), float(optimum.x[1])


# What `logits_of` makes of probabilities that float32 rounds to 0 and to 1.
SMALLEST_LOG = math.log(LOWEST)
LARGEST_ODDS = math.log(HIGHEST / (1 - HIGHEST))


def calibrated_probabilities(
    logits: Any, *, task: str, scaling: Scaling | None, xp: Any
) -> tuple[Any, Any]:
    """Compute probabilities after and before calibration.

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
    """Compute the log of the sum of exponentials over the last axis, which is kept."""
    largest = xp.amax(logits, -1)[..., None]
    return largest + xp.log(xp.exp(logits - largest).sum(-1)[..., None])


def _log_mean(logs: Any, xp: Any) -> Any:
    """Compute the log of the mean over views."""
    if len(logs) == 1:
        return logs[0]
    return _log_sum(xp.moveaxis(logs, 0, -1), xp)[..., 0] - math.log(len(logs))
