"""Strategies, with postponed annotations, some of them for type checkers only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jaxmed.strategies import Group, Optimizer, Phase, Strategy, create_strategy
from jaxmed.strategies.schedules import as_schedule

if TYPE_CHECKING:
    from typing import Unpack

    from jaxmed.models.classifier import Classifier
    from jaxmed.strategies import Settings


def one_phase(name, rates, epochs, schedule="constant"):
    groups = tuple(
        Group(name=g, patterns=(p,), optimizer=Optimizer(learning_rate=rate))
        for g, p, rate in rates
    )
    schedule = as_schedule(schedule)
    phase = Phase(name=name, epochs=epochs, groups=groups, schedule=schedule)
    return Strategy(name=name, phases=(phase,))


def last_two(
    model: Classifier,
    *,
    epochs: int = 1,
    rates: tuple[float, ...] = (1e-2, 1e-3),
    schedule: str | dict = "constant",
    floor: float | None = None,
    kind: Literal["plain", "fancy"] = "plain",
) -> Strategy:
    """Trains layer4 and the head, each at its rate."""
    rates = [max(rate, floor or 0) for rate in rates]
    chosen = ("layer4", "backbone.layer4", rates[0]), ("head", "head", rates[1])
    return one_phase("last_two", chosen, epochs, schedule)


class HeadOnly:
    """Trains the head."""

    def __init__(self, *, epochs: int = 1, rate: float = 1e-3):
        self.epochs, self.rate = epochs, rate

    def __call__(self, model: Classifier) -> Strategy:
        return one_phase("head_only", (("head", "head", self.rate),), self.epochs)


def stem_and_head(model: Classifier, *, rate: float, epochs: int = 1) -> Strategy:
    """Trains both ends."""
    chosen = ("stem", "backbone.conv1", rate), ("head", "head", rate)
    return one_phase("stem_and_head", chosen, epochs)


def with_settings(model, *, stages: int = 1, **settings: Unpack[Settings]) -> Strategy:
    """As partial, with all its settings."""
    return create_strategy("partial", model, stages=stages, **settings)


def no_strategy(model):
    return {"epochs": 1}


def mistaken(model, *, epochs: int = 1):
    return 1 / (epochs - epochs)


class NotCallable:
    pass


constant = 3
