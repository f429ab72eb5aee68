"""Strategies: which parameters are trained, when, and how."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.runtime.annotations import check_fields
from jaxmed.strategies.adapter import Adapter, with_adapter
from jaxmed.strategies.phase import Phase, matches

NORM_MODES = ("frozen", "trained", "updating_bn_stats")


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a model is fine-tuned.

    Attributes:
        name: what tables and reports call it.
        phases: in the order of training, at least one, with different names.
        adapter: adds parameters to the model before the first phase, which the groups
            of phases name like its own; None for none.

    Examples:
        >>> from jaxmed.strategies import Group, Optimizer, Phase
        >>> adam = Optimizer(learning_rate=1e-3)
        >>> head = Group(name="head", patterns=("head",), optimizer=adam)
        >>> strategy = Strategy(
        ...     name="mine", phases=(Phase(name="head", epochs=3, groups=(head,)),)
        ... )
        >>> strategy.phases[0].epochs
        3
    """

    name: str
    phases: tuple[Phase, ...]
    adapter: Adapter | None = None

    def __post_init__(self) -> None:
        check_fields(self, f"Strategy {self.name!r}")
        for phase in self.phases:
            if not isinstance(phase, Phase):
                raise InputError(
                    f"Strategy {self.name!r}: phases must be a list of Phase, got "
                    f"{phase!r}."
                )
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise InputError(
                f"Strategy {self.name!r} needs phases of different names, got {names}."
            )

    def summary(self, model: Classifier) -> list[dict]:
        """Counts what each phase trains.

        Returns:
            A dict per phase: "name", "epochs", "schedule" (in words), "trainable" (a
            number of parameters), "groups", "stages", "frozen" (the names of stages
            none of whose parameters are trained), and the patterns of
            "updating_bn_stats" and "frozen_bn_stats". A group is "name", "patterns",
            "parameters" (a number), "optimizer" and "learning_rate". A stage is
            "name", "parameters" and "trained" (numbers), "rates" (the lowest and the
            highest, empty if frozen) and "norms": how many BatchNorm layers have
            "frozen" statistics, are "trained" and update theirs, or are frozen but for
            "updating_bn_stats".

        Raises:
            InputError: the patterns do not fit the model; see `Phase.assign`.
        """
        model = with_adapter(model, self.adapter)
        return [_count(phase, model) for phase in self.phases]

    def describe(self, model: Classifier) -> str:
        """Returns the table of phases and groups as text, a line per group."""
        model = with_adapter(model, self.adapter)
        total = sum(array.size for array in split(model).params.values())
        header = ("phase", "epochs", "group", "parameters", "optimizer", "rate", "of")
        rows: list[tuple[str, ...]] = [header]
        lines = []
        for phase in self.summary(model):
            for group in phase["groups"]:
                rows.append(
                    (
                        phase["name"],
                        str(phase["epochs"]),
                        group["name"],
                        f"{group['parameters']:,}",
                        group["optimizer"],
                        f"{group['learning_rate']:g}",
                        _shorten(group["patterns"]),
                    )
                )
            lines += _sentences(phase, total)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([f"Strategy {self.name}", *table, *lines])


def _shorten(patterns: Sequence[str], limit: int = 4) -> str:
    more = len(patterns) - limit
    shown = ", ".join(patterns[:limit])
    return f"{shown} and {more} more" if more > 0 else shown


def _sentences(phase: dict, total: int) -> list[str]:
    """Says below the table what its columns do not."""
    share = phase["trainable"] / total
    frozen = f", frozen: {', '.join(phase['frozen'])}" if phase["frozen"] else ""
    sentences = [
        f"{phase['trainable']:,} of {total:,} parameters trainable "
        f"({share:.1%}){frozen}"
    ]
    if phase["schedule"] != "constant":
        sentences.append(f"learning rate {phase['schedule']}")
    if phase["updating_bn_stats"]:
        patterns = ", ".join(phase["updating_bn_stats"])
        sentences.append(
            f"frozen BatchNorm layers in {patterns} update their statistics"
        )
    if phase["frozen_bn_stats"]:
        patterns = ", ".join(phase["frozen_bn_stats"])
        sentences.append(
            f"trained BatchNorm layers in {patterns} keep their statistics"
        )
    return [f"{phase['name']}: {sentence}" for sentence in sentences]


def _count(phase: Phase, model: Classifier) -> dict:
    params = split(model).params
    assigned = phase.assign(params)
    groups = [
        {
            "name": group.name,
            "patterns": list(group.patterns),
            "parameters": sum(
                params[path].size
                for path, name in assigned.items()
                if name == group.name
            ),
            "optimizer": group.optimizer.name,
            "learning_rate": group.optimizer.learning_rate,
        }
        for group in phase.groups
    ]
    stages = _count_stages(phase, model, assigned)
    return {
        "name": phase.name,
        "epochs": phase.epochs,
        "schedule": phase.schedule.describe(),
        "trainable": sum(group["parameters"] for group in groups),
        "frozen": [stage["name"] for stage in stages if not stage["trained"]],
        "updating_bn_stats": list(phase.updating_bn_stats),
        "frozen_bn_stats": list(phase.frozen_bn_stats),
        "groups": groups,
        "stages": stages,
    }


def _count_stages(
    phase: Phase, model: Classifier, assigned: dict[str, str]
) -> list[dict]:
    params, norms = split(model).params, norm_paths(model)
    live = phase.training_norms(model)
    rates = {group.name: group.optimizer.learning_rate for group in phase.groups}
    counted = []
    for name, patterns in model.stages.items():
        inside = [p for p in params if any(matches(q, p) for q in patterns)]
        trained = [path for path in inside if path in assigned]
        stage_rates = sorted({rates[assigned[path]] for path in trained})
        modes = [
            "frozen"
            if path not in live
            else "trained"
            if f"{path}.scale" in assigned
            else "updating_bn_stats"
            for path in norms
            if any(matches(pattern, path) for pattern in patterns)
        ]
        counted.append(
            {
                "name": name,
                "parameters": sum(params[path].size for path in inside),
                "trained": sum(params[path].size for path in trained),
                "rates": [stage_rates[0], stage_rates[-1]] if stage_rates else [],
                "norms": {mode: modes.count(mode) for mode in NORM_MODES},
            }
        )
    return counted
