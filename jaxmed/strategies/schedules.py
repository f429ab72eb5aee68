"""Learning-rate schedules of a phase, with PyTorch's meaning."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxmed.errors import InputError, unknown
from jaxmed.runtime.annotations import check_fields

NAMES = ("constant", "cosine", "one_cycle", "step", "exponential", "plateau")
# torch.optim.lr_scheduler.OneCycleLR's defaults.
RISE = 0.3
START, END = 1 / 25, 1 / 25 / 1e4
MOMENTUM = 0.95, 0.85, 0.95


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A factor on the learning rate of every group of a phase.

    Attributes:
        name: "constant"; "cosine", from the rate down to `final` of it (Loshchilov
            and Hutter, "SGDR", ICLR 2017, one cycle; torch's `CosineAnnealingLR`);
            "one_cycle" (Smith and Topin, "Super-Convergence", 2018; torch's
            `OneCycleLR` with its defaults: the rate is the highest of the cycle, and
            sgd's momentum, or the first beta of the others, goes from 0.95 to 0.85
            and back, whatever the optimizer says; muon's does not, nor that of an
            optimizer of your own); "step", times `gamma` every `every` epochs
            (`StepLR`); "exponential", times `gamma` every epoch (`ExponentialLR`);
            "plateau", times `gamma` when `watch` has not improved for more than
            `patience` epochs (`ReduceLROnPlateau`).
        by: "step" or "epoch": when "cosine" and the warm-up move; torch's
            `scheduler.step()` after every batch, or after every epoch.
        warmup_epochs: the rate first rises linearly from `warmup_start` of itself for
            so many epochs, and the schedule takes the rest of the phase, with its
            epochs counted from there; torch's `SequentialLR` of a `LinearLR` and
            another. At least 0; by "step" it is rounded to whole steps, by "epoch" it
            must be whole.
        warmup_start: in (0, 1]; torchvision's reference training has 0.01.
        final: of "cosine", in [0, 1].
        every: of "step", epochs, at least 1.
        gamma: in (0, 1]; "step" and "plateau" take 0.1 if it is not given.
        watch: of "plateau": a column of the history, such as "val_loss".
        patience: of "plateau", epochs, at least 0.

    Raises:
        InputError: an unknown name or a number out of its range.

    Examples:
        >>> schedule = Schedule(name="step", every=2, gamma=0.5)
        >>> [float(schedule.factor(s, epochs=4, steps_per_epoch=1)) for s in range(4)]
        [1.0, 1.0, 0.5, 0.5]
    """

    name: str = "constant"
    by: str = "step"
    warmup_epochs: float = 0
    warmup_start: float = 0.01
    final: float = 0.0
    every: int = 1
    gamma: float | None = None
    watch: str = "val_loss"
    patience: int = 10

    def __post_init__(self) -> None:
        check_fields(self, "schedule")
        if self.name not in NAMES:
            raise unknown("schedule", self.name, NAMES)
        if self.by not in ("step", "epoch"):
            raise unknown("way to count a schedule, by", self.by, ("step", "epoch"))
        if self.name == "exponential" and self.gamma is None:
            raise InputError("The exponential schedule needs gamma, its factor.")
        if self.name == "one_cycle" and self.warmup_epochs:
            raise InputError("one_cycle begins with a warm-up of its own.")
        gamma = 0.1 if self.gamma is None else self.gamma
        for field, good, expected in (
            ("warmup_epochs", 0 <= self.warmup_epochs < math.inf, "at least 0"),
            ("warmup_start", 0 < self.warmup_start <= 1, "in (0, 1]"),
            ("final", 0 <= self.final <= 1, "in [0, 1]"),
            ("every", self.every >= 1, "at least 1"),
            ("gamma", 0 < gamma <= 1, "in (0, 1]"),
            ("patience", self.patience >= 0, "at least 0"),
        ):
            if not good:
                got = getattr(self, field)
                raise InputError(f"schedule: {field} must be {expected}, got {got}.")
        if self.by == "epoch" and self.warmup_epochs % 1:
            raise InputError(
                f"schedule: {self.warmup_epochs:g} epochs of warm-up can only be "
                'counted by "step".'
            )

    @property
    def constant(self) -> bool:
        """Whether the rate is one number, unless the loop lowers it on a plateau."""
        return self.name in ("constant", "plateau") and not self.warmup_epochs

    @property
    def is_plateau(self) -> bool:
        """Whether the loop lowers the rate when `watch` no longer improves."""
        return self.name == "plateau"

    @property
    def depends_on_length(self) -> bool:
        """Whether the rates of the first epochs depend on how many there will be."""
        return self.name in ("cosine", "one_cycle")

    def factor(self, step: ArrayLike, epochs: int, steps_per_epoch: int) -> jax.Array:
        """Returns the factor on the rate at an optimizer step, float32 ().

        Args:
            step: an integer from 0, counted since the phase began.
            epochs: of the phase.
            steps_per_epoch: optimizer steps.
        """
        step = jnp.asarray(step)
        if self.name == "one_cycle":
            return _one_cycle(step, epochs * steps_per_epoch, START, 1.0, END)
        unit = steps_per_epoch if self.by == "step" else 1
        now = step if self.by == "step" else step // steps_per_epoch
        warm, total = round(self.warmup_epochs * unit), epochs * unit
        after = jnp.maximum(now - warm, 0)
        if self.name == "cosine":
            left = (total - warm - after) / max(total - warm, 1)
            value = _between(1.0, self.final, left)
        elif self.name == "step":
            value = self._gamma ** (after // unit // self.every)
        elif self.name == "exponential":
            value = self._gamma ** (after // unit)
        else:
            value = jnp.ones(())
        if not warm:
            return value
        rising = self.warmup_start + (1 - self.warmup_start) * now / warm
        return jnp.where(now < warm, rising, value)

    def momentum(self, step: ArrayLike, epochs: int, steps_per_epoch: int) -> jax.Array:
        """Returns one_cycle's momentum at a step; the arguments are `factor`'s."""
        total = epochs * steps_per_epoch
        return _one_cycle(jnp.asarray(step), total, *MOMENTUM)

    def plateau_factor(
        self, values: Sequence[float], *, higher_is_better: bool
    ) -> float:
        """Returns the factor that "plateau" has come to, and 1 for the others.

        As torch's `ReduceLROnPlateau` with its relative threshold of 1e-4, but
        without its `eps`, below which a rate no longer falls.

        Args:
            values: `watch` after every epoch of the phase so far.
            higher_is_better: of `watch`.
        """
        if self.name != "plateau":
            return 1.0
        factor, waited = 1.0, 0
        best = -math.inf if higher_is_better else math.inf
        for value in values:
            bound = best * (1 + 1e-4 if higher_is_better else 1 - 1e-4)
            if value > bound if higher_is_better else value < bound:
                best, waited = value, 0
            else:
                waited += 1
            if waited > self.patience:
                factor, waited = factor * self._gamma, 0
        return factor

    def describe(self) -> str:
        """Says what it is in a few words: "cosine by step, 5 epochs of warm-up"."""
        end = f" to {self.final:g} of it" if self.final else ""
        words = {
            "constant": "constant",
            "cosine": f"cosine by {self.by}{end}",
            "one_cycle": "one cycle",
            "step": f"times {self._gamma:g} {_every(self.every)}",
            "exponential": f"times {self._gamma:g} every epoch",
            "plateau": f"times {self._gamma:g} on a plateau of {self.watch}, "
            f"patience {self.patience}",
        }[self.name]
        if self.warmup_epochs:
            many = "epoch" if self.warmup_epochs == 1 else "epochs"
            words += f", {self.warmup_epochs:g} {many} of warm-up"
        return words

    @property
    def _gamma(self) -> float:
        return 0.1 if self.gamma is None else self.gamma


def as_schedule(value: "str | Mapping[str, Any] | Schedule") -> Schedule:
    """Makes a schedule of its name, or of a table of `Schedule`'s attributes.

    Raises:
        InputError: an unknown name or key, or a value out of its range.
    """
    if isinstance(value, Schedule):
        return value
    table = {"name": value} if isinstance(value, str) else value
    if not isinstance(table, Mapping):
        raise InputError(f"schedule must be a name or a table, got {value!r}.")
    known = [field.name for field in fields(Schedule)]
    for key in table:
        if key not in known:
            raise unknown("key of schedule", key, known)
    return Schedule(**table)


def _every(epochs: int) -> str:
    return "every epoch" if epochs == 1 else f"every {epochs} epochs"


def _one_cycle(
    step: jax.Array, total: int, start: float, peak: float, end: float
) -> jax.Array:
    """What goes from `start` to `peak` and on to `end` in `total` steps."""
    # Torch's, below 0 for fewer than four steps, which then begin on the way down.
    top = RISE * total - 1
    fall = _between(peak, end, (total - 1 - step) / (total - 1 - top))
    if top <= 0:
        return fall
    # The same half cosine, exact at its low end.
    return jnp.where(step <= top, _between(peak, start, step / top), fall)


def _between(start: float, end: float, left: ArrayLike) -> jax.Array:
    """Goes from `start` to `end` along half a cosine as `left` goes from 1 to 0.

    As a square of sines, exact near the end, where 1 + cos rounds.
    """
    sine = jnp.sin(math.pi / 2 * jnp.clip(left, 0, 1))
    return end + (start - end) * sine**2
