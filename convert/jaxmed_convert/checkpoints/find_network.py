"""Finding the network among the tensors of a checkpoint.

A training script seldom keeps a network alone. Lightning puts the attribute it is held
in before its names ("model.", "net.", "backbone.") and keeps the loss's and another
head's tensors beside it; DataParallel and torch.compile add "module." and "_orig_mod.";
averaging keeps a second copy of everything. The names an architecture has tell which
tensors are the network's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxmed.models.registry import FAMILIES
from jaxmed_convert.abstract_models import backbone_targets, outline
from jaxmed_convert.checkpoints.positions import named
from jaxmed_convert.checkpoints.prefixes import best, count_prefixes
from jaxmed_convert.checkpoints.unwrapping import AVERAGED
from jaxmed_convert.rules import LEFT_OUT, head_module
from jaxmed_convert.vit_names import with_timm_names

# What wrappers put into names, at the start or where a part of a network is wrapped.
# No module of torchvision is called so.
WRAPPER = re.compile(r"(^|\.)(module|_orig_mod)\.")
ENOUGH = 0.5  # a share of an architecture's names that makes a network of it
TENSORS_SHOWN = 6  # names in a sentence


class Selection(NamedTuple):
    """The tensors of one network.

    Attributes:
        tensors: by the names they have in the network. All that were given, if
            nothing of the architecture is found.
        notes: sentences about what was left out, for people.
    """

    tensors: dict[str, Any]
    notes: tuple[str, ...] = ()


def select(
    tensors: Mapping[str, Any], architecture: str, pool: str = "own"
) -> Selection:
    """Finds the tensors of a network and takes prefixes off their names.

    Args:
        tensors: by the names in the checkpoint.
        architecture, pool: what the network should be; see `Classifier`. If the
            tensors are rather of another family, that family's names count.

    Returns:
        What begins with the architecture's names, complete or not. Nothing of it is
        checked here. Tensors of other modules at the top, such as another head, are
        left out and noted.
    """
    tensors, sources = with_timm_names(_unwrapped(tensors), architecture, pool)
    wanted = set(backbone_targets(outline(architecture, pool)))
    renamed, hits, note = named(tensors, architecture, wanted)
    if hits < ENOUGH * len(wanted):
        return Selection(_of_any_family(tensors))
    tensors, counts = renamed, count_prefixes(renamed, wanted)
    prefix, _ = best(counts)
    copies = [p for p in counts if p != prefix and counts[p] >= ENOUGH * len(wanted)]
    rest = {n: t for n, t in tensors.items() if not n.startswith(tuple(copies))}
    tops = {_top(name) for name in [*wanted, head_module(architecture, pool)]}
    tops.add(LEFT_OUT.get(architecture, ""))  # for the conversion to tell
    selected, left_out = {}, []
    for name, tensor in rest.items():
        inside = name.removeprefix(prefix)
        if name.startswith(prefix) and _top(inside) in tops:
            selected[inside] = tensor
        else:
            left_out.append(f"{name} {tuple(tensor.shape)}")
    notes = [*sources, note] if note else [*sources]
    notes += [_copy(p, prefix, len(_under(p, tensors))) for p in copies]
    if left_out:
        notes.append(f"Left out, being no part of {architecture}: {_some(left_out)}.")
    return Selection(selected, tuple(notes))


def _unwrapped(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
    bare = {}
    for name, tensor in tensors.items():
        while (shorter := WRAPPER.sub(r"\1", str(name))) != name:
            name = shorter
        bare[name] = tensor
    # If two names became one, they were two copies: their prefixes tell them apart.
    return bare if len(bare) == len(tensors) else tensors


def _of_any_family(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is likely a network, by torchvision's names without a prefix."""
    likely, share = dict(tensors), 0.0
    for family in FAMILIES:
        wanted = set(backbone_targets(outline(family[0])))
        renamed, hits, _ = named(tensors, family[0], wanted)
        if hits > share * len(wanted):
            prefix, _ = best(count_prefixes(renamed, wanted))
            likely, share = _under(prefix, renamed), hits / len(wanted)
    return likely


def _under(prefix: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def _top(name: str) -> str:
    return name.partition(".")[0]


def _copy(prefix: str, used: str, count: int) -> str:
    adjective = "an averaged" if AVERAGED.search(prefix) else "another"
    which = f"The one under {used!r}" if used else "The one without a prefix"
    return (
        f"There is {adjective} copy of the network under {prefix!r}, which is ignored "
        f"({count} tensors). {which} is used."
    )


def _some(names: Sequence[str]) -> str:
    more = (
        f" and {len(names) - TENSORS_SHOWN} more" if len(names) > TENSORS_SHOWN else ""
    )
    return ", ".join(names[:TENSORS_SHOWN]) + more
