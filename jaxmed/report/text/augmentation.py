"""What training did to its images: the pictures, and words for them."""

from collections.abc import Sequence
from typing import Any

from jaxmed.report.figures.embed import SAMPLES_WIDTH, Shot, picture_shot
from jaxmed.runs.record import Arm


def augmented_shots(arms: Sequence[Arm]) -> list[Shot]:
    """Pictures of augmented training images; arms with the same share one.

    An arm that was trained on its images as they are has none.
    """
    sharing: dict[str, list[Arm]] = {}
    for arm in arms:
        if words := describe_augmentation(arm.first.environment):
            sharing.setdefault(words, []).append(arm)
    shots = []
    for words, some in sharing.items():
        everyone = len(some) == len(arms)
        names = "all arms" if everyone else ", ".join(arm.name for arm in some)
        path = some[0].first.folder / "augmented.png"
        if path.exists():
            alt = (
                f"Training images of {names}: in each row one as it is, and then as "
                "training sees it, changed at random."
            )
            caption = f"{names}: {words}"
            shots.append(picture_shot(path, alt, SAMPLES_WIDTH, caption))
    return shots


def describe_augmentation(environment: dict[str, Any]) -> str:
    """Returns the operations that a run recorded, with their settings, or ""."""
    spelled = []
    for op in environment.get("augmentation") or []:
        settings = [f"{name} {_spell(op[name])}" for name in op if name != "op"]
        spelled.append(f"{op['op']} {', '.join(settings)}".strip())
    return "; ".join(spelled)


def _spell(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(_spell, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
