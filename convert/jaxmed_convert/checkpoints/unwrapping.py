"""Finding the state dict among all that a training script saves with it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jaxmed.errors import InputError

# What training scripts keep a state dict under, the likeliest first.
WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
# How averages of weights over the steps of a training are called.
AVERAGED = re.compile(r"(^|[._])(ema|avg|averaged?|swa)([._]|$)")
# Tensors that are no network's: those of optimizers, schedules and losses.
BESIDE = re.compile(r"opt|sched|scaler|loss|criterion|rng|metric|grad", re.IGNORECASE)

Keys = tuple[str, ...]


def unwrap(path: Path, content: Any) -> tuple[dict[str, Any], list[str]]:
    """Finds the state dict in what a file holds.

    Args:
        path: the file, for messages.
        content: what was in it.

    Returns:
        Tensors by name, and sentences about what else there is.

    Raises:
        InputError: there is none.
    """
    state_dicts = sorted(_state_dicts(content), key=_rank)
    if not state_dicts:
        raise InputError(
            f"The file {path} does not hold a state dict: expected tensors by name, "
            f"{_describe(content)}."
        )
    (keys, chosen), others = state_dicts[0], state_dicts[1:]
    notes = []
    if keys and _wrapper(keys) == len(WRAPPERS):
        notes.append(f"The tensors under {'.'.join(keys)} are taken.")
    strange = [str(name) for name, value in chosen.items() if not is_tensor(value)]
    for where, tensors in others:
        # What is nested in the chosen ones is not another copy of them.
        if AVERAGED.search(".".join(where)):
            notes.append(
                f"The file also holds an averaged copy ({where[0]}), which is ignored."
            )
        elif where:
            notes.append(
                f"The file also holds {len(tensors)} tensors under {'.'.join(where)}, "
                "which are ignored."
            )
    if strange and not keys:
        strange = [name for name in strange if name not in {w[0] for w, _ in others}]
    if strange:
        more = " and more" if len(strange) > 3 else ""
        notes.append(f"Left out, being no tensors: {', '.join(strange[:3])}{more}.")
    return {str(n): t for n, t in chosen.items() if is_tensor(t)}, notes


def is_tensor(value: Any) -> bool:
    """Tells tensors and arrays from other values."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _state_dicts(
    content: Any, keys: Keys = ()
) -> Iterator[tuple[Keys, Mapping[Any, Any]]]:
    """Yields every dict with tensors that may be a network's, and where it is."""
    if not isinstance(content, Mapping):
        return
    names = [str(name) for name, value in content.items() if is_tensor(value)]
    # Where nothing says that it is a network, names with dots do.
    known = not keys or keys[-1] in WRAPPERS or _is_averaged(keys)
    if names and (known or any("." in name for name in names)):
        yield keys, content
    for key, value in content.items():
        if not BESIDE.search(str(key)):
            yield from _state_dicts(value, (*keys, str(key)))


def _rank(candidate: tuple[Keys, Mapping[Any, Any]]) -> tuple[bool, int, int]:
    keys, content = candidate
    count = sum(is_tensor(value) for value in content.values())
    return _is_averaged(keys), _wrapper(keys), -count


def _wrapper(keys: Keys) -> int:
    """Returns how likely a place is, 0 for the likeliest."""
    ranks = [WRAPPERS.index(key) for key in keys if key in WRAPPERS]
    return min(ranks, default=len(WRAPPERS))


def _is_averaged(keys: Keys) -> bool:
    return AVERAGED.search(".".join(keys)) is not None


def _describe(content: Any) -> str:
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            break
        content = content[inner[0]]
    if isinstance(content, Mapping) and content:
        name, value = next(iter(content.items()))
        return f"got {type(value).__name__} under {name!r}"
    return f"got {type(content).__name__}"
