"""Losses by task, and hits."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import special

from jaxmed.data.dataset import MISSING
from jaxmed.errors import InputError, unknown
from jaxmed.models.outputs import is_single

LOSSES = ("cross_entropy", "focal")


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What training minimizes: cross-entropy or the focal loss, in nats.

    Of the softmax; or, for a single logit and if multi-label, of the sigmoids,
    averaged over the labels. By default torch's `CrossEntropyLoss` and
    `BCEWithLogitsLoss`. Labels that are not known are left out: the loss of a batch is
    then the mean over its known labels, all of the same weight, so that an image counts
    by how many of its labels are known. Hashable, so that it can be a static argument
    of a jitted step.

    Attributes:
        name: "cross_entropy"; or "focal", which multiplies -log p by (1 - p)^gamma,
            p being the probability given to the truth (Lin et al., ICCV 2017,
            equation 4, and with weights equation 5).
        label_smoothing: s in [0, 1). A softmax's target gives each of k classes s/k
            and the true one 1 - s more, as in torch; a sigmoid's target y becomes
            y (1 - s) + s/2. "focal" does to the part of each target what it does to
            the truth.
        focal_gamma: of "focal", at least 0, where it is cross-entropy.
        class_weights: a factor per class, above 0, of a softmax: torch's `weight`.
            Empty means that all are equal.
        positive_weights: a factor per label, above 0, of the loss of positives, of
            sigmoids: torch's `pos_weight`. Empty means that all are 1.

    Raises:
        InputError: an unknown name, or a number out of its range.
    """

    name: str = "cross_entropy"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    class_weights: tuple[float, ...] = ()
    positive_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise unknown("loss", self.name, LOSSES)
        if not 0 <= self.label_smoothing < 1:
            raise InputError(
                f"label_smoothing must be in [0, 1), got {self.label_smoothing}."
            )
        if not 0 <= self.focal_gamma < math.inf:
            raise InputError(f"focal_gamma must be at least 0, got {self.focal_gamma}.")
        for field in ("class_weights", "positive_weights"):
            for weight in getattr(self, field):
                if not 0 < weight < math.inf:
                    raise InputError(f"{field} must be above 0, got {weight}.")

    def __call__(
        self, logits: ArrayLike, labels: ArrayLike, task: str
    ) -> tuple[jax.Array, jax.Array]:
        """Computes a loss and a weight per image.

        Args:
            logits: float32 (n, k); of a binary task (n, 2) or (n, 1), see `is_single`.
            labels: int32 (n,) class indices; if multi-label (n, k) of 0, 1 and
                `MISSING`.
            task: see `jaxmed.data.dataset.Task`.

        Returns:
            Losses, times their weights, and the weights, float32 (n,) each. The loss
            of a batch, torch's mean, is the sum of the former over that of the latter.
            If multi-label an image's weight is the share of its labels that are known,
            and its loss the sum of theirs over k: 0 both where none is.

        Raises:
            InputError: weights of another number than logits, or of the wrong kind.
        """
        return self._compute(
            jnp.asarray(logits), jnp.asarray(labels), task, jnp, jax.scipy.special
        )

    def _compute(
        self, logits: Any, labels: Any, task: str, xp: Any, sp: Any
    ) -> tuple[Any, Any]:
        """As `__call__`, with the functions of NumPy and SciPy, or of JAX."""
        num_logits = logits.shape[-1]
        if is_single(num_logits, task):
            labels, task = labels[:, None], "multilabel"
        if task == "multilabel":
            self._check_weights("positive_weights", "class_weights", num_logits)
            return self._of_sigmoids(logits, labels, xp)
        self._check_weights("class_weights", "positive_weights", num_logits)
        return self._of_softmax(logits, labels, xp, sp)

    def _of_softmax(
        self, logits: Any, labels: Any, xp: Any, sp: Any
    ) -> tuple[Any, Any]:
        normalizers = sp.logsumexp(logits, axis=-1, keepdims=True)
        of_truth = xp.take_along_axis(logits, labels[:, None], axis=-1) - normalizers
        equal = (1.0,) * logits.shape[-1]
        of_class = xp.asarray(self.class_weights or equal, logits.dtype)
        weights = of_class[labels]
        losses = -weights * self._focus(of_truth, xp)[:, 0]
        if smooth := self.label_smoothing:
            class_losses = -of_class * self._focus(logits - normalizers, xp)
            losses = (1 - smooth) * losses + smooth * class_losses.mean(axis=-1)
        return losses, weights

    def _of_sigmoids(self, logits: Any, labels: Any, xp: Any) -> tuple[Any, Any]:
        known = labels != MISSING
        targets = xp.asarray(labels, logits.dtype)
        if smooth := self.label_smoothing:
            targets = targets * (1 - smooth) + smooth / 2
        positive = self._focus(-xp.logaddexp(-logits, 0), xp)
        negative = self._focus(-xp.logaddexp(logits, 0), xp)
        of_label = xp.asarray(self.positive_weights or 1.0, logits.dtype)
        losses = -targets * of_label * positive - (1 - targets) * negative
        losses = xp.where(known, losses, 0).mean(axis=-1)
        return losses, _share(known, losses.dtype, xp)

    def _focus(self, log_probs: Any, xp: Any) -> Any:
        """Multiplies log p by (1 - p)^gamma, if the loss is focal."""
        if self.name != "focal":
            return log_probs
        # The slope of a power of 0 is infinite for a gamma below 1.
        rest = xp.maximum(-xp.expm1(log_probs), xp.finfo(log_probs.dtype).tiny)
        return rest**self.focal_gamma * log_probs

    def _check_weights(self, used: str, unused: str, num_logits: int) -> None:
        if getattr(self, unused):
            raise InputError(f"This task's loss takes {used}, not {unused}.")
        weights = getattr(self, used)
        if weights and len(weights) != num_logits:
            raise InputError(
                f"{used} needs a number for each of {num_logits} logits, "
                f"got {len(weights)}."
            )


CROSS_ENTROPY = Loss()


def mean_loss(
    logits: np.ndarray, labels: np.ndarray, task: str, loss: Loss = CROSS_ENTROPY
) -> float:
    """Averages a loss over a split as over a batch, in double precision on the host."""
    wide = logits.astype(np.float64)
    losses, weights = loss._compute(wide, labels, task, np, special)
    return float(losses.sum() / weights.sum())


def image_hits(
    logits: ArrayLike, labels: ArrayLike, task: str
) -> tuple[jax.Array, jax.Array]:
    """Says per image whether the decision is right, and what the image counts.

    The decision is the most probable class: of a single logit class 1 if it is above
    0. If multi-label it is a probability of at least one half per label.

    Returns:
        0 or 1, and 1; if multi-label the share of labels that are known and right, and
        the share of those that are known. float32 (n,) each; the sum of the former over
        that of the latter is the accuracy.
    """
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if task == "multilabel":
        known = labels != MISSING
        right = known & ((logits >= 0) == (labels == 1))
        return right.mean(axis=-1, dtype=jnp.float32), _share(known, jnp.float32, jnp)
    single = is_single(logits.shape[-1], task)
    decided = logits[:, 0] > 0 if single else logits.argmax(axis=-1)
    hits = (decided == labels).astype(jnp.float32)
    return hits, jnp.ones_like(hits)


def _share(known: Any, dtype: Any, xp: Any) -> Any:
    """Returns the share of labels that are known, (n,), exactly 1 if all are."""
    # XLA divides by multiplying with the inverse, which is not exact.
    return xp.where(known.all(axis=-1), 1, known.mean(axis=-1, dtype=dtype))
