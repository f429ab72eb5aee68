"""`find-batch-size`: the largest batch of an arm that fits, and the speed of each."""

from typing import TYPE_CHECKING, Any

from jaxmed.config.recipes import find_recipe, load_recipe
from jaxmed.experiments.commands.arguments import add_out, add_recipe
from jaxmed.experiments.pipeline.load_data import load_part
from jaxmed.experiments.pipeline.prepare import (
    check_arm,
    naming,
    prepare_arm,
)

if TYPE_CHECKING:
    from jaxmed.training.batch_finder import BatchMeasure

HELP = "double the batch until it does not fit, and tell memory and speed of each"
DESCRIPTION = """\
Compiles and times the training step of an arm with batches of 8 images, 16 and so on,
until it does not fit the device's free memory (on a CPU the machine's) or the training
images end. The step is that of the phase which trains the most parameters. Nothing is
written, and no run is changed: set train.batch_size yourself."""
FIELDS = """\
Every field of a recipe is a flag, as for `run`, whose --help lists them:
  find-batch-size quickstart --arm two_phase --train.precision bfloat16
"""
ADVICE = """\
A larger batch is faster only as long as images/s rises, and it makes fewer steps of an
epoch: the learning rate that suits it is another (find-lr). train.accumulate makes one
step of several batches that fit."""


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    parser.add_argument(
        "--arm", metavar="NAME", help="which arm (default: the first one)"
    )
    add_out(parser)
    parser.description = DESCRIPTION
    parser.epilog = FIELDS


def execute(arguments: Any) -> None:
    """Carry the command out."""
    arms = None if arguments.arm is None else [arguments.arm]
    recipe = load_recipe(find_recipe(arguments.recipe), arguments.overrides, arms=arms)
    arm, config = next(iter(recipe.arms.items()))
    check_arm(config, arm)
    # Only now: it brings JAX, which takes seconds.
    from jaxmed.training.batch_finder import find_batch_sizes

    with naming(arm):
        data = load_part(config.data)
        seed = config.train.seeds[0]
        prepared = prepare_arm(config, data, seed=seed, out=arguments.out)
        phase, measures = find_batch_sizes(
            prepared.model, data, prepared.strategy, prepared.training
        )
    print(f"\n{recipe.name}, arm {arm}, phase {phase.name!r}:")
    print(f"{format_measures(measures)}\n\n{ADVICE}")


def format_measures(measures: "list[BatchMeasure]") -> str:
    """Return a table with a line per size, and which one is the largest."""
    rows = [("images a batch", "memory", "images/s")]
    for measure in measures:
        speed = measure.images_per_second
        text = "does not fit" if speed is None else f"{speed:,.0f}"
        rows.append((f"{measure.batch_size:,}", f"{measure.memory / 1e9:.2f} GB", text))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    fitting = [measure for measure in measures if measure.images_per_second is not None]
    if not fitting:
        return "\n".join([*lines, "None fits: set a smaller data.image_size."])
    fastest = max(fitting, key=lambda measure: measure.images_per_second or 0)
    return "\n".join(
        [
            *lines,
            f"Largest that fits: {fitting[-1].batch_size:,}. "
            f"Fastest: {fastest.batch_size:,}.",
        ]
    )
