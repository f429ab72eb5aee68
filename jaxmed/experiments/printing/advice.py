"""Advice as text: what was found, what to start with, why, and a recipe to run."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from jaxmed.advisor.advice import TITLES, Advice, ClassBalance, Reason
from jaxmed.advisor.advisor import LARGE, SMALL, size_of
from jaxmed.config.schema import ExperimentConfig
from jaxmed.runtime.toml import format_toml

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset

WIDTH = 88


def describe_facts(
    config: ExperimentConfig,
    arm: str,
    data: "Dataset",
    balance: ClassBalance,
    parameters: int,
    likeness: str,
) -> list[str]:
    """Returns a sentence for each thing that was found and that advice depends on.

    Args:
        config, arm: whose images and backbone.
        data: its images.
        balance: of their classes.
        parameters: of the backbone.
        likeness: how like they are to the pretraining's, and how that was found.
    """
    against = "without it to 1 with it" if data.task == "multilabel" else "to 1"
    return [
        f"Arm: {arm} ({config.data.source} at {data.image_size} pixels)",
        f"Size: {size_of(len(data.train))}, {len(data.train):,} training images (small "
        f"is under {SMALL:,}, large over {LARGE:,}: rules of thumb); "
        f"{len(data.val):,} for validation",
        f"Balance: {balance.ratio:.3g} {against}; of {len(data.class_names)} classes "
        f"the rarest, {balance.rarest}, has {balance.smallest:,} training images; "
        f"fewest of a class in validation: {balance.smallest_in_val:,}",
        f"Backbone: {config.model.backbone}, {parameters / 1e6:.1f} million "
        f"parameters, weights: {config.model.weights}",
        f"Likeness to the pretraining's images: {likeness}",
    ]


def format_advice(facts: Sequence[str], advice: Advice, recipe: dict[str, Any]) -> str:
    """Puts everything together under headings.

    Args:
        facts: see `describe_facts`.
        advice: what is advised.
        recipe: the same, to run; nested tables.
    """
    file = f"{recipe['name']}.toml"
    options = [f"{option} {value}" for option, value in advice.options.items()]
    given = (*advice.reasons, *advice.cautions)
    sources = sorted({TITLES[reason.source] for reason in given if reason.source})
    parts = [
        ("Found", _items(facts)),
        ("Advice", _items([f"Start with {advice.strategy}: {', '.join(options)}"])),
        ("Why", _items(map(_spell, advice.reasons))),
        ("Watch out", _items(map(_spell, advice.cautions))),
        (
            "Compare with",
            _items(f"{o.arm} ({o.strategy}): {o.why}" for o in advice.alternatives),
        ),
        ("Sources", _items(sources)),
        (
            f"To run it, save what follows as {file}, and then:\n"
            f"  python -m jaxmed.experiments run {file}\n",
            _format_recipe(recipe),
        ),
    ]
    return "\n\n".join(f"{title}\n{text}" for title, text in parts if text)


def _format_recipe(recipe: dict[str, Any]) -> str:
    # Headers with nothing but another header below them are not needed.
    return re.sub(r"^\[.*\]\n\n(?=\[)", "", format_toml(recipe), flags=re.M).rstrip()


def _items(texts: Iterable[str]) -> str:
    return "\n".join(
        textwrap.fill(
            text,
            WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for text in texts
    )


def _spell(reason: Reason) -> str:
    return f"{reason.text} [{reason.source or 'rule of thumb'}]"
