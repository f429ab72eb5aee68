"""`advise`: which strategy to start with on a recipe's images, and why."""

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxmed.advisor.advice import ClassBalance, DomainSimilarity
from jaxmed.config.recipes import Recipe, find_recipe, load_recipe
from jaxmed.errors import InputError, unknown
from jaxmed.experiments.commands.arguments import add_out, add_recipe
from jaxmed.experiments.pipeline.load_data import load_part

if TYPE_CHECKING:
    from jaxmed.advisor.advice import Advice
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
# So many images tell how like a set is to the pretraining's.
SAMPLE = 256


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    parser.add_argument(
        "--arm",
        metavar="NAME",
        help="whose images and backbone (default: the first arm with pretrained "
        "weights, or else the first)",
    )
    parser.add_argument(
        "--domain",
        choices=("similar", "different"),
        help="the images, to those of the pretraining; then nothing is measured, and "
        "no weights are needed",
    )
    add_out(parser, "where weights run:FOLDER are looked for")
    parser.description = DESCRIPTION
    parser.epilog = FIELDS


def execute(arguments: Any) -> None:
    """Carries the command out."""
    recipe = load_recipe(find_recipe(arguments.recipe), arguments.overrides)
    arm = _choose_arm(recipe, arguments.arm)
    print(advise_arm(recipe, arm, domain=arguments.domain, out=arguments.out))


def advise_arm(recipe: Recipe, arm: str, *, domain: str | None, out: Path) -> str:
    """Writes the advice for one arm of a recipe.

    Args:
        recipe: whose arm.
        arm: its images, backbone and weights count, and its strategy does not.
        domain: "similar" or "different"; None measures it where it can be.
        out: where weights "run:..." are looked for.

    Raises:
        InputError: images or weights that are not there or do not fit.
    """
    from jaxmed.advisor.advisor import advise
    from jaxmed.experiments.pipeline.prepare import check_arm, naming, prepare_arm
    from jaxmed.experiments.printing.advice import describe_facts, format_advice
    from jaxmed.models.parameters import split

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
    likeness = _find_likeness(prepared, data, domain, pretrained)
    balance = weigh_classes(data)
    params = split(prepared.model).params.items()
    parameters = sum(a.size for path, a in params if path.startswith("backbone."))
    advice = advise(
        images=len(data.train),
        smallest_class=balance.smallest,
        imbalance=balance.ratio,
        smallest_val_class=balance.smallest_in_val,
        domain=likeness.domain,
        pretrained=pretrained,
        parameters=parameters,
    )
    facts = describe_facts(config, arm, data, balance, parameters, likeness.how)
    return format_advice(facts, advice, advised_recipe(recipe, arm, advice))


def weigh_classes(data: "Dataset") -> ClassBalance:
    """Compares the classes' numbers of images."""
    counts, in_val = _count(data, "train"), _count(data, "val")
    fewest = int(counts.min())
    rarest, most = int(counts.argmin()), int(counts.max())
    if data.task == "multilabel":
        most = int((data.train.labels[:, rarest] == 0).sum())
    return ClassBalance(
        rarest=data.class_names[rarest],
        smallest=fewest,
        ratio=max(1.0, most / fewest) if fewest else float("inf"),
        smallest_in_val=int(in_val.min()),
    )


def _count(data: "Dataset", split: str) -> np.ndarray:
    labels = getattr(data, split).labels
    if labels.ndim == 2:
        return (labels == 1).sum(axis=0)
    return np.bincount(labels, minlength=len(data.class_names))


def advised_recipe(recipe: Recipe, arm: str, advice: "Advice") -> dict[str, Any]:
    """Returns a recipe, as nested tables, of what is advised and what to compare with.

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
    own = {key: train[key] for key in ("batch_size", "seeds") if key in train}
    table["train"] = own | {"select": advice.select}
    start = {"strategy": advice.strategy, "options": dict(advice.options)}
    table["arms"] = {"advised": {"train": start}}
    for other in advice.alternatives:
        train = {"strategy": other.strategy, "options": dict(other.options)}
        weights = {} if other.pretrained else {"model": {"weights": "none"}}
        table["arms"][other.arm] = weights | {"train": train}
    return table


def _choose_arm(recipe: Recipe, name: str | None) -> str:
    if name is None:
        arms = recipe.arms.items()
        ready = [arm for arm, config in arms if config.model.weights != "none"]
        return [*ready, *recipe.arms][0]
    if name not in recipe.arms:
        raise unknown(f"arm of {recipe.path.stem}", name, recipe.arms)
    return name


def _find_likeness(
    prepared: "PreparedArm", data: "Dataset", domain: str | None, pretrained: bool
) -> DomainSimilarity:
    from jaxmed.advisor.domain_distance import SIMILAR, domain_distance

    if domain is not None:
        return DomainSimilarity(domain=domain, how=f"{domain}, as --domain says")
    how = "different, which is assumed, as medical images mostly are: "
    if not pretrained:
        return DomainSimilarity(
            domain="different", how=f"{how}there are no pretrained weights"
        )
    order = np.random.default_rng(0).permutation(len(data.train))[:SAMPLE]
    images = data.train.images[np.sort(order)]
    distance = domain_distance(
        prepared.model, images, preprocessing=prepared.preprocessing
    )
    if distance is None:
        how += "the backbone has no BatchNorm to measure it by (--domain says it)"
        return DomainSimilarity(domain="different", how=how)
    domain = "similar" if distance <= SIMILAR else "different"
    return DomainSimilarity(
        domain=domain,
        how=f"{domain}: distance {distance:.3f}, up to {SIMILAR:g} is similar, "
        f"between the weights' BatchNorm statistics and those of {len(images)} "
        "training images. A rough measure: it sees sharpness and contrast more than "
        "what is shown, its limit was set with two photographs and one ResNet-18, "
        "and statistics that were taken anew after the pretraining speak of those "
        "images. --domain overrules it",
    )


def _changed(section: Any) -> dict[str, Any]:
    """Returns the fields of a table of the configuration that are not the default."""
    values = asdict(section)
    return {
        f.name: values[f.name] for f in fields(section) if values[f.name] != f.default
    }
