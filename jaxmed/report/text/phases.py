"""Phases of training as a run recorded them, stage by stage, and in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from jaxmed.report.figures.style import format_rate
from jaxmed.runs.record import RunRecord


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """One stage of the network in one phase.

    Attributes:
        name: such as "layer4".
        parameters: how many it has.
        trained: how many of them are trained.
        rates: the lowest and the highest learning rate, or the only one; empty if it
            is frozen.
        updating_bn_stats: number of BatchNorm layers frozen but for their statistics.
        frozen_bn_stats: number of trained ones whose statistics are frozen.
    """

    name: str
    parameters: int
    trained: int
    rates: tuple[float, ...]
    updating_bn_stats: int
    frozen_bn_stats: int

    @property
    def frozen(self) -> bool:
        return self.trained == 0

    @property
    def partial(self) -> bool:
        """Return whether some of the stage's parameters are trained, but not all."""
        return 0 < self.trained < self.parameters

    @property
    def share(self) -> str:
        """Format the share of trained parameters: "0.4 %"."""
        percent = 100 * self.trained / max(1, self.parameters)
        if 0 < percent < 0.1:
            return "<0.1 %"
        return ">99 %" if 99 < percent < 100 else f"{percent:.2g} %"

    @property
    def rate(self) -> str:
        """Format the learning rate: "at 1e-4", "at 1e-5 to 1e-4", or "frozen"."""
        if self.frozen:
            return "frozen"
        return f"at {' to '.join(map(format_rate, self.rates)) or 'an unknown rate'}"


@dataclass(frozen=True, kw_only=True)
class PhaseRecord:
    """One phase: its name, epochs, schedule ("" if constant), stages in order."""

    name: str
    epochs: int
    schedule: str
    stages: tuple[StageRecord, ...]

    @property
    def duration(self) -> str:
        """Format epochs and schedule: "5 epochs, cosine by step"."""
        words = f"{self.epochs} epoch{'' if self.epochs == 1 else 's'}"
        return f"{words}, {self.schedule}" if self.schedule else words


def read_phases(run: RunRecord) -> tuple[PhaseRecord, ...]:
    """Read the recorded phases of a run; empty if it recorded no stages."""
    entries = (run.environment.get("parameters") or {}).get("phases") or ()
    phases = tuple(map(_phase, entries))
    # A picture has a column for each stage, so that every phase must have the same.
    names = {tuple(stage.name for stage in phase.stages) for phase in phases}
    return phases if len(names) == 1 and names != {()} else ()


def _phase(entry: Mapping[str, Any]) -> PhaseRecord:
    schedule = str(entry.get("schedule") or "")
    return PhaseRecord(
        name=str(entry.get("name", "")),
        epochs=int(entry.get("epochs") or 0),
        schedule="" if schedule == "constant" else schedule,
        stages=tuple(map(_stage, entry.get("stages") or ())),
    )


def _stage(entry: Mapping[str, Any]) -> StageRecord:
    trained = int(entry.get("trained") or 0)
    rates = [float(rate) for rate in entry.get("rates") or ()]
    norms = entry.get("norms") or {}
    return StageRecord(
        name=str(entry.get("name", "")),
        parameters=int(entry.get("parameters") or 0),
        trained=trained,
        rates=tuple(sorted({min(rates), max(rates)})) if rates else (),
        updating_bn_stats=int(norms.get("updating_bn_stats") or 0),
        # Statistics that stay are nothing to speak of where all else stays, too.
        frozen_bn_stats=int(norms.get("frozen") or 0) if trained else 0,
    )


def describe_phases(arm: str, phases: Sequence[PhaseRecord]) -> str:
    """Describe the diagram of an arm's phases in words."""
    sentences = [f"Training phases of {arm}, by stage from the image to the head."]
    for phase in phases:
        parts = [
            f"{_span([stage.name for stage in stages])} {words}"
            for words, stages in groupby(phase.stages, key=_words)
        ]
        sentences.append(f"Phase {phase.name} ({phase.duration}): {'; '.join(parts)}.")
    return " ".join(sentences)


def _span(names: Sequence[str]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else " and ".join(names)


def _words(stage: StageRecord) -> str:
    words = stage.rate
    if stage.partial:
        words = f"in part ({stage.share}) {words}"
    if stage.updating_bn_stats:
        words += f",{'' if stage.frozen else ' frozen'} BatchNorm statistics updating"
    if stage.frozen_bn_stats:
        words += ", BatchNorm statistics frozen"
    return words
