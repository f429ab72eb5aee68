"""Strategies: which parameters are trained, when, and how.

A strategy is an ordered list of phases. A phase names groups of parameters, each by
patterns over their paths and each with an optimiser; every other parameter is frozen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import optax

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.normalization import norm_paths
from jaxmed.models.parameters import Arrays, split
from jaxmed.strategies.optimizer import Optimizer


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share an optimiser.

    Attributes:
        name: what tables and history columns call it.
        patterns: paths such as "backbone.layer4" or "backbone.*.bn1". A pattern
            takes the parameter of that path and every parameter below it; `*` stands
            for any run of characters.
        optimizer: how these parameters are trained.
    """

    name: str
    patterns: tuple[str, ...]
    optimizer: Optimizer

    def takes(self, path: str) -> bool:
        """Says whether the parameter at `path` belongs to this group."""
        return any(matches(pattern, path) for pattern in self.patterns)


def matches(pattern: str, path: str) -> bool:
    """Says whether a group's pattern takes the parameter at `path`."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one optimiser state.

    Attributes:
        name: what tables and plots call it.
        epochs: passes over the training images, at least 1.
        groups: what is trained; everything else is frozen, BatchNorm statistics
            included. A BatchNorm layer uses and updates batch statistics where its
            own parameters are trained. Dropout and stochastic depth act in the whole
            backbone as soon as some of it is trained.
        drifting: patterns of frozen BatchNorm layers that nevertheless use and update
            batch statistics. This is what PyTorch programs do that freeze parameters
            and then call `model.train()`; the frozen features change with it.
    """

    name: str
    epochs: int
    groups: tuple[Group, ...]
    drifting: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise InputError(
                f"Phase {self.name!r} must have at least 1 epoch, got {self.epochs}."
            )

    def assign(self, paths: Iterable[str]) -> dict[str, str]:
        """Finds the group of every trained parameter.

        Args:
            paths: the paths of all parameters of a model.

        Returns:
            The name of the group by path, for the trained parameters only.

        Raises:
            InputError: a pattern takes no parameter, or two groups take the same
                one.
        """
        paths = list(paths)
        taken = {path: [g.name for g in self.groups if g.takes(path)] for path in paths}
        twice = [f"{path} ({', '.join(n)})" for path, n in taken.items() if len(n) > 1]
        unused = [
            f"{pattern!r} of group {group.name!r}"
            for group in self.groups
            for pattern in group.patterns
            if not any(matches(pattern, path) for path in paths)
        ]
        problems = []
        if unused:
            problems.append(f"no parameter matches {', '.join(unused)}")
        if twice:
            shown = ", ".join(twice[:5]) + (" and more" if len(twice) > 5 else "")
            problems.append(f"in more than one group: {shown}")
        if problems:
            raise InputError(f"Phase {self.name!r}: {'; '.join(problems)}.")
        return {path: names[0] for path, names in taken.items() if names}

    def training_norms(self, model: Classifier) -> frozenset[str]:
        """Returns the paths of the BatchNorm layers that use batch statistics.

        Raises:
            InputError: a pattern of `drifting` matches no BatchNorm layer.
        """
        trained = self.assign(split(model).params)
        norms = norm_paths(model)
        for pattern in self.drifting:
            if not any(matches(pattern, path) for path in norms):
                raise InputError(
                    f"Phase {self.name!r}: no BatchNorm layer matches {pattern!r}."
                )
        return frozenset(
            path
            for path in norms
            if f"{path}.scale" in trained
            or any(matches(pattern, path) for pattern in self.drifting)
        )

    def transformation(self, trained: Iterable[str]) -> optax.GradientTransformation:
        """Builds the optimiser of the trained parameters.

        Args:
            trained: their paths, as given by `assign`. Frozen parameters have no
                part in it, so that there is no state for them either.
        """
        return optax.multi_transform(
            {group.name: group.optimizer.transformation() for group in self.groups},
            self.assign(trained),
        )


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a model is fine-tuned.

    Attributes:
        name: what tables and reports call it.
        phases: in the order of training, at least one, with different names.
    """

    name: str
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        names = [phase.name for phase in self.phases]
        if not names or len(set(names)) < len(names):
            raise InputError(
                f"Strategy {self.name!r} needs phases of different names, got {names}."
            )

    def summary(self, model: Classifier) -> list[dict]:
        """Counts what each phase trains.

        Returns:
            A dict per phase: "name", "epochs", "trainable" (a number of parameters)
            and "groups", a dict each: "name", "patterns", "parameters" (a number),
            "optimizer" and "learning_rate"; "frozen", the names of the stages none of
            whose parameters are trained; and "drifting", the patterns.

        Raises:
            InputError: the patterns do not fit the model; see `Phase.assign`.
        """
        params = split(model).params
        for phase in self.phases:
            phase.training_norms(model)
        return [_count(phase, params, model.stages) for phase in self.phases]

    def describe(self, model: Classifier) -> str:
        """Returns the table of phases and groups as text, a line per group."""
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
            share = phase["trainable"] / total
            frozen = (
                f", frozen: {', '.join(phase['frozen'])}" if phase["frozen"] else ""
            )
            lines.append(
                f"{phase['name']}: {phase['trainable']:,} of {total:,} parameters "
                f"trainable ({share:.1%}){frozen}"
            )
            if phase["drifting"]:
                lines.append(
                    f"{phase['name']}: the statistics of frozen BatchNorm layers in "
                    f"{', '.join(phase['drifting'])} drift"
                )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = [
            "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([f"Strategy {self.name}", *table, *lines])


def _shorten(patterns: Sequence[str], most: int = 4) -> str:
    more = len(patterns) - most
    shown = ", ".join(patterns[:most])
    return f"{shown} and {more} more" if more > 0 else shown


def _count(phase: Phase, params: Arrays, stages: Mapping[str, tuple[str, ...]]) -> dict:
    assigned = phase.assign(params)
    frozen = [
        stage
        for stage, patterns in stages.items()
        if not any(matches(p, path) for p in patterns for path in assigned)
    ]
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
    return {
        "name": phase.name,
        "epochs": phase.epochs,
        "trainable": sum(group["parameters"] for group in groups),
        "frozen": frozen,
        "drifting": list(phase.drifting),
        "groups": groups,
    }
