"""What stands before a network's names in a checkpoint."""

import re
from collections import Counter
from collections.abc import Container, Iterable

from jaxmed_convert.checkpoints.unwrapping import AVERAGED


def count_prefixes(tensors: Iterable[str], wanted: Container[str]) -> Counter[str]:
    """Counts how many of the wanted names there are behind each prefix."""
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        start = next((s for s in starts if name[s:] in wanted), None)
        if start is not None:
            counts[name[:start]] += 1
    return counts


def best(counts: Counter[str]) -> tuple[str, int]:
    """Returns the prefix with the most names; not an average's, and a short one."""

    def merit(prefix: str) -> tuple[int, bool, int]:
        return counts[prefix], AVERAGED.search(prefix) is None, -len(prefix)

    prefix = max(counts, key=merit, default="")
    return prefix, counts[prefix]
