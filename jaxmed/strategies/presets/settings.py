"""Settings that every preset takes beside options of its own."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypedDict

from jaxmed.errors import InputError, unknown
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.strategies.optimizers import Optimizer
from jaxmed.strategies.phase import Group, Phase
from jaxmed.strategies.schedules import as_schedule

NORM_POLICIES = ("trained", "eval", "train")
_OPTIMIZER = {field.name for field in fields(Optimizer)}


class Settings(TypedDict, total=False):
    """Settings of all phases of a preset; what is not given keeps its default.

    Attributes:
        optimizer: see `Optimizer.name`.
        weight_decay, momentum, nesterov, decay_bias_and_norm: see `Optimizer`.
        schedule: a `Schedule`, its name, or a table of its attributes.
        clip_norm, sam_rho, patience, restore_best: see `Phase`.
        batch_norm: which BatchNorm layers use and update batch statistics: "trained"
            (the default), those whose parameters are trained; "eval", none, as in a
            program that calls `model.eval()`; "train", all, as in one that calls
            `model.train()` and so lets the statistics of frozen layers drift.
    """

    optimizer: str
    weight_decay: float
    momentum: float
    nesterov: bool
    decay_bias_and_norm: bool
    schedule: Any
    clip_norm: float | None
    sam_rho: float
    patience: int | None
    restore_best: bool
    batch_norm: str


Rates = Mapping[str, tuple[tuple[str, ...], float]]


def make_phase(
    model: Classifier,
    name: str,
    epochs: int,
    rates: Rates,
    settings: Settings,
    *,
    l2_sp: Mapping[str, float] | None = None,
) -> Phase:
    """Makes a phase of groups that differ in their rates.

    Args:
        model: what is trained.
        name, epochs: the phase's.
        rates: the patterns and the learning rate of every group, by its name.
        settings: of the phase and of every group's optimizer.
        l2_sp: the strength of the L2-SP penalty by the names of groups that have it
            in place of their weight decay; see `Optimizer`.

    Raises:
        InputError: a setting has an unknown name or a value out of its range.
    """
    options: dict[str, Any] = dict(settings)
    for key in options:
        if key not in Settings.__annotations__:
            raise unknown("setting", key, Settings.__annotations__)
    policy = options.pop("batch_norm", "trained")
    if policy not in NORM_POLICIES:
        raise unknown("batch_norm", str(policy), NORM_POLICIES)
    schedule = as_schedule(options.pop("schedule", "constant"))
    common = {key: options.pop(key) for key in list(options) if key in _OPTIMIZER}
    if "optimizer" in options:
        common["name"] = options.pop("optimizer")
    groups = []
    for group, (patterns, rate) in rates.items():
        values: dict[str, Any] = {"learning_rate": rate}
        if l2_sp and group in l2_sp:
            values |= {"weight_decay": 0.0, "l2_sp": l2_sp[group]}
        optimizer = Optimizer(**common | values)
        groups.append(Group(name=group, patterns=patterns, optimizer=optimizer))
    phase = Phase(
        name=name, epochs=epochs, groups=tuple(groups), schedule=schedule, **options
    )
    return _with_policy(phase, model, policy)


def stage_rates(
    model: Classifier, rates: Mapping[str, float], stages_per_group: int = 1
) -> Rates:
    """Makes a group of every stage, or group of stages, that has a rate."""
    return {
        name: (patterns, rates[name])
        for name, patterns in grouped_stages(model, stages_per_group).items()
        if name in rates
    }


def grouped_stages(
    model: Classifier, stages_per_group: int = 1
) -> dict[str, tuple[str, ...]]:
    """Join stages to groups, such as the blocks of a vision transformer.

    The first stage and the head stay alone. The others are counted from the last down,
    so that the lowest group may be smaller.

    Returns:
        The patterns of each group from the image up, by its name, such as "block6" or
        "block6-block8".

    Raises:
        InputError: fewer than one stage to a group.

    Examples:
        >>> from jaxmed import create_model
        >>> model = create_model("resnet10_narrow", num_classes=2)
        >>> list(grouped_stages(model, 3))
        ['stem', 'layer1', 'layer2-layer4', 'head']
    """
    if stages_per_group < 1:
        raise InputError(
            f"stages_per_group must be at least 1, got {stages_per_group}."
        )
    first, *middle, head = model.stages.items()
    groups = [first]
    start = len(middle) % stages_per_group or stages_per_group
    for end in range(start, len(middle) + 1, stages_per_group):
        part = middle[max(0, end - stages_per_group) : end]
        names = dict.fromkeys((part[0][0], part[-1][0]))
        groups.append(("-".join(names), sum((paths for _, paths in part), ())))
    return dict([*groups, head])


def backbone_stages(model: Classifier) -> list[str]:
    """Returns the names of the stages but the head, from the image up."""
    return [name for name in model.stages if name != "head"]


def _with_policy(phase: Phase, model: Classifier, policy: str) -> Phase:
    live = phase.training_norms(model)
    if policy == "train" and live < set(norm_paths(model)):
        return replace(phase, updating_bn_stats=("backbone",))
    if policy == "eval" and live:
        return replace(phase, frozen_bn_stats=("backbone",))
    return phase
