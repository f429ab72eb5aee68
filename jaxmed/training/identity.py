"""The identity of a training: all that decides its result, for its checkpoints.

A checkpoint is gone on from only by a training that would have come to the very same
state by itself: the same images, labels, starting weights, settings and phases. Phases
that have not begun may differ, and the one at work may be longer or shorter, unless its
schedule depends on its length.
"""

import functools
import hashlib
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmed.data.dataset import Dataset
from jaxmed.errors import InputError
from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import norm_momenta
from jaxmed.models.parameters import split
from jaxmed.strategies import Phase, Strategy
from jaxmed.training.config import TrainingConfig

Flat = dict[str, Any]
# Differences that a sentence names.
DIFFERENCES_SHOWN = 3
# Of the starting weights. They may be rounded otherwise by another kind of device.
TOLERANCE = 1e-5
# Differences in these are said without their values, which are hashes.
WORDS = {
    "train.images": "the training images are others",
    "train.labels": "the labels of the training images are others",
    "val.images": "the validation images are others",
    "val.labels": "the labels of the validation images are others",
    "model.parameters": "the model has other parameters, or of other shapes",
}


def identify(
    model: Classifier, data: Dataset, strategy: Strategy, config: TrainingConfig
) -> dict[str, Any]:
    """Describe a training by all that decides its result.

    Args:
        model: with the weights that it starts from.
        data: whose train and val splits count.
        strategy: whose phases count.
        config: whose options count, but those declared neutral.

    Returns:
        What JSON can hold: "settings", flat by dotted names; "phases", such a dict for
        each; and "start", numbers that tell starting weights apart.
    """
    parts = split(model)
    arrays = {p: np.asarray(a) for p, a in (parts.params | parts.stats).items()}
    shapes = "".join(f"{path}{arrays[path].shape}" for path in sorted(arrays))
    flat = flatten(
        {
            "task": data.task,
            "class_names": data.class_names,
            "train": {"number of images": len(data.train)} | data.train.digests,
            "val": {"number of images": len(data.val)} | data.val.digests,
            "model": {
                "architecture": model.architecture,
                "pool": model.pool,
                "norm_momentum": norm_momenta(model),
                "in_channels": model.in_channels,
                "head": model.head.kind,
                "dropout": model.head.dropout.rate,
                "parameters": hashlib.sha256(shapes.encode()).hexdigest(),
            },
        }
    )
    flat |= {name: value for name, value in flatten(config).items() if name}
    if strategy.adapter is not None:
        flat |= flatten({"adapter": strategy.adapter})
    return {
        "settings": flat,
        "phases": [flatten(phase) for phase in strategy.phases],
        "start": _summarize(arrays),
    }


def check_identity(
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    strategy: Strategy,
    *,
    begun: int,
    epochs: int,
    where: Path,
) -> None:
    """Checks that a training may go on from the checkpoints of another program.

    Args:
        then, now: as `identify` gave them.
        strategy: of now.
        begun: phases that the checkpoint is of, the last of which may not be over.
        epochs: of this last one that have begun.
        where: the checkpoints.

    Raises:
        InputError: something differs that decides the result.
    """
    differences = _differences(then["settings"], now["settings"])
    for number in range(begun):
        if number >= len(strategy.phases):
            ran = ", ".join(repr(p["name"]) for p in then["phases"][:begun])
            differences.append(f"the phases were {ran}, and now there are fewer")
            break
        differences += _phase_differences(
            then["phases"][number],
            now["phases"][number],
            strategy.phases[number],
            epochs if number == begun - 1 else None,
        )
    if not differences and not np.allclose(then["start"], now["start"], rtol=TOLERANCE):
        differences.append(
            "the model starts from other weights (one that was trained since is to be "
            "created anew)"
        )
    if differences:
        more = (
            f"; and {len(differences) - DIFFERENCES_SHOWN} more"
            if len(differences) > DIFFERENCES_SHOWN
            else ""
        )
        raise InputError(
            f"The checkpoints in {where} are of another training: "
            f"{'; '.join(differences[:DIFFERENCES_SHOWN])}{more}. Use another folder "
            "for this one, or what was given then."
        )


def _phase_differences(
    then: Flat, now: Flat, phase: Phase, epochs: int | None
) -> list[str]:
    """Says how a phase differs; `epochs` of it have begun, None if it is over."""
    name, differences = f"phase {phase.name!r}", []
    if epochs is not None and then["epochs"] != now["epochs"]:
        lengths = f"{name} had {then['epochs']} epochs, and now {now['epochs']}"
        if phase.schedule.depends_on_length:
            differences.append(
                f"{lengths}, and the rates of its {phase.schedule.name} schedule "
                "depend on how many there are"
            )
        elif phase.epochs < epochs:
            differences.append(f"{lengths}, of which {epochs} have begun")
        now = now | {"epochs": then["epochs"]}
    return differences + [
        f"in {name} {sentence}" for sentence in _differences(then, now)
    ]


def _differences(then: Flat, now: Flat) -> list[str]:
    differences = []
    for key in dict.fromkeys((*now, *then)):
        old, new = then.get(key), now.get(key)
        if old == new:
            continue
        values = f"{key or 'type'} was {_format(old)}, and now is {_format(new)}"
        differences.append(WORDS.get(key, values))
    return differences


def _format(value: Any, limit: int = 60) -> str:
    text = "not there" if value is None else repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _summarize(arrays: Mapping[str, np.ndarray]) -> list[float]:
    """Returns the norm of all arrays, and a sum that tells them apart."""
    squares, mixed = 0.0, 0.0
    for number, path in enumerate(sorted(arrays), start=1):
        flat = arrays[path].ravel()
        squares += float(np.dot(flat, flat))
        mixed += number * float(flat.sum(dtype=np.float64))
    return [squares**0.5, mixed]


def flatten(value: Any) -> Flat:
    """Describes a value by plain ones, by dotted names.

    Of dataclasses their type and the fields that are not neutral (see
    `jaxmed.config.setting`), of functions their code: what they are called
    and what is written in them, with the values that they enclose.

    Examples:
        >>> from jaxmed.strategies import Optimizer
        >>> flatten({"o": Optimizer(learning_rate=0.1)})["o.learning_rate"]
        0.1
    """
    return dict(_leaves(value, ""))


def _leaves(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if is_dataclass(value) and not isinstance(value, type):
        # Two operations may have the same settings.
        yield prefix, type(value).__name__
        value = {
            field.name: getattr(value, field.name)
            for field in fields(value)
            if not field.metadata.get("neutral")
        }
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()
        yield prefix, f"{value.dtype.str}{value.shape} {digest}"
    elif isinstance(value, np.generic):
        yield prefix, value.item()
    elif value is None or isinstance(value, bool | int | float | str):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(value, list | tuple):
        plain = all(isinstance(item, bool | int | float | str) for item in value)
        if plain:
            yield prefix, list(value)
        else:
            yield f"{prefix} (number)", len(value)
            for number, inner in enumerate(value, start=1):
                name = getattr(inner, "name", None) or number
                yield from _leaves(inner, f"{prefix}.{name}")
    elif callable(value):
        yield prefix, _code(value)
    else:
        yield prefix, f"{type(value).__module__}.{type(value).__qualname__}"
        yield from _leaves(getattr(value, "__dict__", {}), prefix)


def _code(function: Callable[..., Any]) -> str:
    """Describes a function by its name and a hash of what it does."""
    digest = hashlib.sha256()

    def add(value: Any, depth: int = 0) -> None:
        if depth > 5:
            return
        if isinstance(value, functools.partial):
            for part in (value.func, value.args, sorted(value.keywords.items())):
                add(part, depth + 1)
        elif isinstance(value, types.MethodType):
            add(value.__func__, depth + 1)
            add(vars(value.__self__) if hasattr(value.__self__, "__dict__") else "")
        elif isinstance(value, types.FunctionType):
            add(value.__code__, depth + 1)
            add((value.__defaults__, value.__kwdefaults__), depth + 1)
            for cell in value.__closure__ or ():
                add(cell.cell_contents, depth + 1)
        elif isinstance(value, types.CodeType):
            digest.update(value.co_code)
            add((value.co_names, value.co_consts), depth + 1)
        elif isinstance(value, list | tuple):
            for element in value:
                add(element, depth + 1)
        elif isinstance(value, Mapping):
            add(sorted(value.items(), key=lambda item: str(item[0])), depth + 1)
        elif value is None or isinstance(value, bool | int | float | str | bytes):
            digest.update(repr(value).encode())
        else:
            digest.update(type(value).__qualname__.encode())
            add(getattr(value, "__dict__", {}), depth + 1)

    add(function)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{name} {digest.hexdigest()[:16]}"
