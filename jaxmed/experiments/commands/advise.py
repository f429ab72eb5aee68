"""`advise`: the strategy to start with on a recipe's images, and why."""

import re
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxmed.advisor.rules import (
    DOMAINS,
    LARGE,
    SMALL,
    SOURCES,
    Advice,
    Facts,
    Reason,
    advise,
)
from jaxmed.config.recipes import Recipe, find_recipe, load_recipe
from jaxmed.errors import InputError, unknown
from jaxmed.experiments.commands.arguments import add_out, add_recipe
from jaxmed.experiments.pipeline.load_data import load_part
from jaxmed.runtime.toml import format_toml

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.experiments.pipeline.prepare import PreparedArm

HELP = "say which strategy to start with on a recipe's images, and why"
DESCRIPTION = """\
Looks at the number of a recipe's training images, their balance and how like they are
to those of the backbone's pretraining, and prints which strategy to start with, why,
and a recipe to run. It is advice from rules of thumb: nothing is trained, no folder of
runs is touched, and `run` never asks for it."""
FIELDS = """\
Every field of a recipe is a flag, as for `run`, whose --help lists them:
  advise quickstart --data.source npz:my_images.npz --model.weights imagenet
"""
# Training images from which the domain distance is measured.
SAMPLE = 256
WIDTH = 88


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    parser.add_argument(
        "--arm",
        metavar="NAME",
        help="whose images and backbone (default: the first arm with pretrained "
        "weights, or else the first)",
    )
    parser.add_argument(
        "--domain",
        choices=DOMAINS,
        help="the images, to those of the pretraining; then nothing is measured, and "
        "no weights are needed",
    )
    add_out(parser, "where weights run:FOLDER are looked for")
    parser.description = DESCRIPTION
    parser.epilog = FIELDS


def execute(arguments: Any) -> None:
    """Carry the command out."""
    recipe = load_recipe(find_recipe(arguments.recipe), arguments.overrides)
    arm = _select_arm(recipe, arguments.arm)
    print(advise_arm(recipe, arm, domain=arguments.domain, out=arguments.out))


def advise_arm(recipe: Recipe, arm: str, *, domain: str | None, out: Path) -> str:
    """Write the advice for one arm of a recipe.

    Args:
        recipe: whose arm.
        arm: its images, backbone and weights count, and its strategy does not.
        domain: "similar" or "different"; None measures it where it can be.
        out: where weights "run:..." are looked for.

    Raises:
        InputError: images or weights that are not there or do not fit.
    """
    from jaxmed.experiments.pipeline.prepare import check_arm, naming, prepare_arm
    from jaxmed.models.parameters import split

    # The images, and the network; its weights only where they are measured.
    config = recipe.arms[arm]
    check_arm(config, arm)
    data = load_part(config.data)
    pretrained = config.model.weights != "none"
    measured = pretrained and domain is None
    weights = config.model.weights if measured else "none"
    built = replace(config, model=replace(config.model, weights=weights))
    try:
        with naming(arm):
            prepared = prepare_arm(built, data, seed=config.train.seeds[0], out=out)
    except InputError as error:
        hint = " With --domain no weights are needed." if measured else ""
        raise InputError(f"{error}{hint}") from error
    params = split(prepared.model).params.items()

    # The facts, and what the rules make of them.
    domain, similarity = _compare_domain(prepared, data, domain, pretrained)
    balance = weigh_classes(data)
    facts = Facts(
        images=len(data.train),
        smallest_class=balance.smallest,
        imbalance=balance.ratio,
        smallest_val_class=balance.smallest_in_val,
        domain=domain,
        pretrained=pretrained,
        parameters=sum(a.size for path, a in params if path.startswith("backbone.")),
    )
    against = "without it to 1 with it" if data.task == "multilabel" else "to 1"
    sentences = [
        f"Arm: {arm} ({config.data.source} at {data.image_size} pixels)",
        f"Size: {facts.size}, {facts.images:,} training images (small is under "
        f"{SMALL:,}, large over {LARGE:,}: rules of thumb); {len(data.val):,} for "
        "validation",
        f"Balance: {balance.ratio:.3g} {against}; of {len(data.class_names)} classes "
        f"the rarest, {balance.rarest}, has {balance.smallest:,} training images; "
        f"fewest of a class in validation: {balance.smallest_in_val:,}",
        f"Backbone: {config.model.backbone}, {facts.parameters / 1e6:.1f} million "
        f"parameters, weights: {config.model.weights}",
        f"Similarity to the pretraining's images: {similarity}",
    ]
    advice = advise(facts)
    return format_advice(sentences, advice, advised_recipe(recipe, arm, advice))


class ClassBalance(NamedTuple):
    """How even a data set's classes are.

    Attributes:
        rarest: the class with the fewest training images.
        smallest: their number.
        ratio: the commonest class's to it; in a multi-label task the images without
            the rarest label to those with it, at least 1. Infinite if it has none.
        smallest_in_val: validation images of the class that has the fewest there.
    """

    rarest: str
    smallest: int
    ratio: float
    smallest_in_val: int


def weigh_classes(data: "Dataset") -> ClassBalance:
    """Compare the classes' numbers of images."""
    counts, in_val = _count(data, "train"), _count(data, "val")
    fewest = int(counts.min())
    rarest, most = int(counts.argmin()), int(counts.max())
    if data.task == "multilabel":
        most = int((data.train.labels[:, rarest] == 0).sum())
    ratio = max(1.0, most / fewest) if fewest else float("inf")
    return ClassBalance(data.class_names[rarest], fewest, ratio, int(in_val.min()))


def _count(data: "Dataset", split: str) -> np.ndarray:
    labels = getattr(data, split).labels
    if labels.ndim == 2:
        return (labels == 1).sum(axis=0)
    return np.bincount(labels, minlength=len(data.class_names))


def advised_recipe(recipe: Recipe, arm: str, advice: Advice) -> dict[str, Any]:
    """Return a recipe, as nested tables, of what is advised and what to compare with.

    Args:
        recipe, arm: give images, backbone and weights.
        advice: gives the arms, "advised" the first.
    """
    config = recipe.arms[arm]
    table: dict[str, Any] = {"name": f"{recipe.name}_advised"}
    if config.needs:
        table["needs"] = recipe.table(arm, config.train.seeds[0])["needs"]
    table["data"] = _changed(config.data)
    table["model"] = _changed(config.model)
    train = _changed(config.train)
    kept = {key: train[key] for key in ("batch_size", "seeds") if key in train}
    table["train"] = kept | {"select": advice.select}
    table["arms"] = {}
    start = replace(advice.start, name="advised", pretrained=True)
    for other in (start, *advice.compare_with):
        weights = {} if other.pretrained else {"model": {"weights": "none"}}
        train = {"strategy": other.strategy, "options": dict(other.options)}
        table["arms"][other.name] = weights | {"train": train}
    return table


def _changed(section: Any) -> dict[str, Any]:
    """Return the fields of a table of the configuration that are not the default."""
    values = asdict(section)
    return {
        f.name: values[f.name] for f in fields(section) if values[f.name] != f.default
    }


def _select_arm(recipe: Recipe, name: str | None) -> str:
    if name is None:
        arms = recipe.arms.items()
        ready = [arm for arm, config in arms if config.model.weights != "none"]
        return [*ready, *recipe.arms][0]
    if name not in recipe.arms:
        raise unknown(f"arm of {recipe.path.stem}", name, recipe.arms)
    return name


def _compare_domain(
    prepared: "PreparedArm", data: "Dataset", domain: str | None, pretrained: bool
) -> tuple[str, str]:
    """Return "similar" or "different", and in words how that was decided."""
    from jaxmed.advisor.domain_distance import SIMILAR, domain_distance

    if domain is not None:
        return domain, f"{domain}, as --domain says"
    assumed = "different, which is assumed, as medical images mostly are: "
    if not pretrained:
        return "different", f"{assumed}there are no pretrained weights"
    order = np.random.default_rng(0).permutation(len(data.train))[:SAMPLE]
    images = data.train.images[np.sort(order)]
    distance = domain_distance(
        prepared.model, images, preprocessing=prepared.training.preprocessing
    )
    if distance is None:
        return "different", (
            f"{assumed}the backbone has no BatchNorm to measure it by (--domain says "
            "it)"
        )
    domain = "similar" if distance <= SIMILAR else "different"
    return domain, (
        f"{domain}: distance {distance:.3f}, up to {SIMILAR:g} is similar, between the "
        f"weights' BatchNorm statistics and those of {len(images)} training images. A "
        "rough measure: it sees sharpness and contrast more than content, its limit "
        "was set with two photographs and one ResNet-18, and statistics taken anew "
        "after the pretraining describe those images. --domain overrules it"
    )


def format_advice(facts: Iterable[str], advice: Advice, recipe: dict[str, Any]) -> str:
    """Put everything together under headings.

    Args:
        facts: a sentence for each.
        advice: what is advised.
        recipe: the same, to run; nested tables.
    """
    file, start = f"{recipe['name']}.toml", advice.start
    options = [f"{option} {value}" for option, value in start.options.items()]
    cited = {reason.source for reason in (*advice.reasons, *advice.cautions)}
    arms = [f"{arm.name} ({arm.strategy}): {arm.why}" for arm in advice.compare_with]
    # Headers with nothing but another header below them are not needed.
    toml = re.sub(r"^\[.*\]\n\n(?=\[)", "", format_toml(recipe), flags=re.M).rstrip()
    parts = [
        ("Facts", _items(facts)),
        ("Advice", _items([f"Start with {start.strategy}: {', '.join(options)}"])),
        ("Why", _items(map(_cite, advice.reasons))),
        ("Watch out", _items(map(_cite, advice.cautions))),
        ("Compare with", _items(arms)),
        ("Sources", _items(sorted(SOURCES[source] for source in cited - {""}))),
        (
            f"To run it, save what follows as {file}, and then:\n  jaxmed run {file}\n",
            toml,
        ),
    ]
    return "\n\n".join(f"{title}\n{text}" for title, text in parts if text)


def _items(texts: Iterable[str]) -> str:
    wrapper = textwrap.TextWrapper(
        WIDTH,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(map(wrapper.fill, texts))


def _cite(reason: Reason) -> str:
    return f"{reason.text} [{reason.source or 'rule of thumb'}]"
