"""Groups of parameters, and phases of training.

A phase names groups of parameters, each by patterns over their paths and each with an
optimizer; every other parameter is frozen.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import optax

from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import split
from jaxmed.runtime.annotations import check_fields
from jaxmed.strategies.optimizers import Optimizer
from jaxmed.strategies.schedules import Schedule, as_schedule


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share an optimizer.

    Attributes:
        name: what tables and history columns call it.
        patterns: paths such as "backbone.layer4" or "backbone.*.bn1", at least one. A
            pattern takes the parameter of that path and every parameter below it; `*`
            stands for any run of characters.
        optimizer: how these parameters are trained.
    """

    name: str
    patterns: tuple[str, ...]
    optimizer: Optimizer

    def __post_init__(self) -> None:
        check_fields(self, f"Group {self.name!r}")
        if not self.patterns:
            raise InputError(
                f"Group {self.name!r} has no patterns, so it trains nothing. Name "
                'parameters, such as "head", or leave the group out.'
            )
        if not isinstance(self.optimizer, Optimizer):
            raise InputError(
                f"Group {self.name!r}: optimizer must be an Optimizer, such as "
                f"Optimizer(learning_rate=1e-3), got {self.optimizer!r}."
            )

    def takes(self, path: str) -> bool:
        """Says whether the parameter at `path` belongs to this group."""
        return any(matches(pattern, path) for pattern in self.patterns)


def matches(pattern: str, path: str) -> bool:
    """Says whether a group's pattern takes the parameter at `path`."""
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training with one optimizer state.

    Attributes:
        name: what tables and plots call it.
        epochs: passes over the training images, at least 1.
        groups: what is trained, at least one, of different names; everything else is
            frozen, BatchNorm statistics included. A BatchNorm layer uses and updates
            batch statistics where its own parameters are trained. Dropout and
            stochastic depth act in the whole backbone as soon as some of it is
            trained.
        updating_bn_stats: patterns of frozen BatchNorm layers that nevertheless use
            and update batch statistics. This is what PyTorch programs do that freeze
            parameters and then call `model.train()`; the frozen features change with
            it.
        frozen_bn_stats: patterns of trained BatchNorm layers that nevertheless use
            their running statistics and leave them alone; what PyTorch programs do
            that call `eval()` on these layers.
        schedule: of every group's learning rate; a name or a table will do, see
            `as_schedule`.
        clip_norm: above 0; gradients of the trained parameters together are scaled
            down to this norm, as by torch's `clip_grad_norm_`. None: they are not.
        sam_rho: at least 0; above 0, the gradient is taken at the weights plus so long
            a step along their own gradient, which twice as much computing costs
            ("sharpness-aware minimization": Foret et al., ICLR 2021, eq. 2 and
            algorithm 1; their rho is 0.05). BatchNorm's statistics are those of the
            weights themselves.
        patience: stop the phase early after so many epochs, at least 1, in which the
            metric that chooses the best one has not improved. None: never.
        restore_best: end the phase with the weights of its best epoch, not its last.
        frozen: patterns of what is left out of training on purpose. If given, it is an
            error if a parameter is neither in a group nor among them, or in both.

    Raises:
        InputError: a value of another type, a number out of its range, no groups, or
            two of one name.

    Examples:
        >>> sgd = Optimizer(name="sgd", learning_rate=0.01, momentum=0.9)
        >>> last = Group(name="last", patterns=("head", "*.layer4"), optimizer=sgd)
        >>> phase = Phase(name="last", epochs=5, groups=(last,), schedule="cosine")
        >>> phase.assign(["backbone.conv1.bias", "backbone.layer4.bias", "head.bias"])
        {'backbone.layer4.bias': 'last', 'head.bias': 'last'}
    """

    name: str
    epochs: int
    groups: tuple[Group, ...]
    updating_bn_stats: tuple[str, ...] = ()
    frozen_bn_stats: tuple[str, ...] = ()
    schedule: Schedule = Schedule()  # noqa: RUF009
    clip_norm: float | None = None
    sam_rho: float = 0.0
    patience: int | None = None
    restore_best: bool = True
    frozen: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        check_fields(self, f"Phase {self.name!r}")
        self._check_groups()
        for field, good, expected in (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("clip_norm", self.clip_norm is None or self.clip_norm > 0, "above 0"),
            ("sam_rho", self.sam_rho >= 0, "at least 0"),
            ("patience", self.patience is None or self.patience >= 1, "at least 1"),
        ):
            if not good:
                raise InputError(
                    f"Phase {self.name!r}: {field} must be {expected}, "
                    f"got {getattr(self, field)}."
                )

    def _check_groups(self) -> None:
        for group in self.groups:
            if not isinstance(group, Group):
                raise InputError(
                    f"Phase {self.name!r}: groups must be a list of Group, got "
                    f"{group!r}."
                )
        if not self.groups:
            raise InputError(
                f"Phase {self.name!r} has no groups, so it trains nothing. Give it at "
                "least one Group, or leave the phase out."
            )
        names = [group.name for group in self.groups]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise InputError(
                f"Phase {self.name!r} has several groups of the name {twice[0]!r}. "
                "Each needs a name of its own, which its optimizer is known by."
            )

    def assign(self, paths: Iterable[str]) -> dict[str, str]:
        """Finds the group of every trained parameter.

        Args:
            paths: the paths of all parameters of a model.

        Returns:
            The name of the group by path, for the trained parameters only.

        Raises:
            InputError: a pattern takes no parameter, two groups take the same one, or
                none takes one that `frozen` does not name.
        """
        claims = [(f"group {g.name!r}", g.patterns) for g in self.groups]
        if self.frozen is not None:
            claims.append(("frozen", self.frozen))
        paths = list(paths)
        takers = {
            path: [
                claimant
                for claimant, patterns in claims
                if any(matches(p, path) for p in patterns)
            ]
            for path in paths
        }
        problems = [
            ("no parameter matches", _unused(claims, paths)),
            (
                "in more than one place:",
                [f"{p} ({', '.join(w)})" for p, w in takers.items() if len(w) > 1],
            ),
        ]
        if self.frozen is not None:
            lost = [path for path, claimants in takers.items() if not claimants]
            problems.append(("neither in a group nor frozen:", lost))
        messages = [
            f"{problem} {_list_some(names)}" for problem, names in problems if names
        ]
        if messages:
            raise InputError(f"Phase {self.name!r}: {'; '.join(messages)}.")
        return self._groups_of(paths)

    def _groups_of(self, paths: Iterable[str]) -> dict[str, str]:
        takers = {
            path: [g.name for g in self.groups if g.takes(path)] for path in paths
        }
        return {path: names[0] for path, names in takers.items() if names}

    def training_norms(self, model: Classifier) -> frozenset[str]:
        """Returns the paths of the BatchNorm layers that use batch statistics.

        Raises:
            InputError: a pattern of `updating_bn_stats` or `frozen_bn_stats` matches
                no BatchNorm layer, or one of `frozen_bn_stats` none that is trained.
        """
        trained = self.assign(split(model).params)
        all_norms = norm_paths(model)
        live = [path for path in all_norms if f"{path}.scale" in trained]
        for patterns, norms, qualifier in (
            (self.updating_bn_stats, all_norms, ""),
            (self.frozen_bn_stats, live, "trained "),
        ):
            for pattern in patterns:
                if not any(matches(pattern, path) for path in norms):
                    raise InputError(
                        f"Phase {self.name!r}: no {qualifier}BatchNorm layer matches "
                        f"{pattern!r}."
                    )

        def uses_batches(path: str) -> bool:
            if any(matches(pattern, path) for pattern in self.frozen_bn_stats):
                return False
            return path in live or any(matches(p, path) for p in self.updating_bn_stats)

        return frozenset(path for path in all_norms if uses_batches(path))

    def freezes_stem(self, model: Classifier) -> bool:
        """Tells whether the first stage keeps its kernels, or its BatchNorm statistics.

        Then the stages after it get what the weights at the start make of an image.
        """
        params = split(model).params
        trained, live = self.assign(params), self.training_norms(model)
        patterns = next(iter(model.stages.values()))

        def inside(paths: Iterable[str]) -> list[str]:
            return [
                p for p in paths if any(matches(pattern, p) for pattern in patterns)
            ]

        kernels = [path for path in inside(params) if path.endswith(".kernel")]
        norms = inside(norm_paths(model))
        return not trained.keys() >= set(kernels) or not live >= set(norms)

    def transformation(
        self, trained: Iterable[str], steps_per_epoch: int = 1
    ) -> optax.GradientTransformation:
        """Builds the optimizer of the trained parameters.

        Args:
            trained: their paths, as given by `assign`. Frozen parameters have no
                part in it, so that there is no state for them, and a limit on the
                gradients' norm does not see them.
            steps_per_epoch: optimizer steps, which the schedule counts by.
        """
        optimizers: dict[Hashable, optax.GradientTransformation] = {
            group.name: self._optimize(group, steps_per_epoch) for group in self.groups
        }
        groups = optax.multi_transform(optimizers, self._groups_of(trained))
        if self.clip_norm is None:
            return groups
        return optax.chain(optax.clip_by_global_norm(self.clip_norm), groups)

    def rate(self, group: Group, step: int, steps_per_epoch: int) -> float:
        """Returns a group's learning rate at an optimizer step of the phase, from 0.

        What a plateau has lowered it by is not in it.
        """
        factor = self.schedule.factor(step, self.epochs, steps_per_epoch)
        return group.optimizer.learning_rate * float(factor)

    def _optimize(
        self, group: Group, steps_per_epoch: int
    ) -> optax.GradientTransformation:
        schedule, optimizer = self.schedule, group.optimizer
        if schedule.constant:
            return optimizer.transformation()
        length = {"epochs": self.epochs, "steps_per_epoch": steps_per_epoch}

        def rate(step):
            return optimizer.learning_rate * schedule.factor(step, **length)

        if schedule.name != "one_cycle":
            return optimizer.transformation(rate=rate)
        momentum = partial(schedule.momentum, **length)
        return optimizer.transformation(rate=rate, momentum=momentum)


def _unused(claims: Sequence[tuple[str, Sequence[str]]], paths: list[str]) -> list[str]:
    """Returns the patterns that take no parameter, each with whose it is."""
    return [
        f"{pattern!r} of {claimant}"
        for claimant, patterns in claims
        for pattern in patterns
        if not any(matches(pattern, path) for path in paths)
    ]


def _list_some(items: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more
