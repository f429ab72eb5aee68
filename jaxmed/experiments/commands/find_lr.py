"""`find-lr`: a learning-rate range test of an arm, with its plot."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.recipes import Recipe, find_recipe, load_recipe
from jaxmed.experiments.commands.arguments import add_out, add_recipe
from jaxmed.experiments.pipeline.load_data import load_part
from jaxmed.experiments.pipeline.prepare import (
    check_arm,
    naming,
    prepare_arm,
)
from jaxmed.runs.layout import check_writable, experiment_folder
from jaxmed.runtime.csv_files import write_csv
from jaxmed.runtime.files import atomic_write

if TYPE_CHECKING:
    from jaxmed.training.lr_finder.sweep import RangeTest

HELP = "raise the learning rate until the loss diverges, and suggest one"
DESCRIPTION = """\
Makes a range test (Smith, WACV 2017) of every phase of an arm's strategy: some steps
at a rate that rises from 1e-7 to 1, all groups together and each one alone. Writes
OUT/NAME/find-lr/ARM.png and ARM.csv and prints what they suggest. Every test starts
with the arm's starting weights, and those that it ends with are thrown away: no run
is looked at or changed, but one that the starting weights come from is read."""
FIELDS = """\
Every field of a recipe is a flag, as for `run`, whose --help lists them:
  find-lr quickstart --arm two_phase --train.options.optimizer adamw
"""
ADVICE = """\
steepest: where the loss falls fastest, often the highest rate that goes well for some
steps. valley: two thirds along the loss's longest fall, a careful rate to start with.
A test is of one start and few steps: it finds the order of magnitude, no more. Of all
groups the highest rate is meant, and the others keep their ratios to it; one group
alone is tested with the rates of the others at 0."""
LATER = """\
Later phases were tested from the starting weights too, not from what the phases before
them would have made of these."""


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    parser.add_argument(
        "--arm", metavar="NAME", help="which arm (default: the first one)"
    )
    add_out(parser)
    parser.add_argument(
        "--steps",
        metavar="N",
        type=int,
        default=100,
        help="steps of each test, at least 10 (default: 100)",
    )
    parser.description = DESCRIPTION
    parser.epilog = FIELDS


def execute(arguments: Any) -> None:
    """Carry the command out."""
    arms = None if arguments.arm is None else [arguments.arm]
    recipe = load_recipe(find_recipe(arguments.recipe), arguments.overrides, arms=arms)
    arm = next(iter(recipe.arms))
    folder = experiment_folder(arguments.out, recipe.name) / "find-lr"
    check_writable(folder, "Give another --out.")
    tests = measure_arm(recipe, arm, out=arguments.out, steps=arguments.steps)
    write_table(folder / f"{arm}.csv", tests)
    write_picture(folder / f"{arm}.png", tests, f"{recipe.name}, {arm}: range test")
    print(f"\n{format_tests(tests)}\n\n{ADVICE}")
    if len({test.phase for test in tests}) > 1:
        print(LATER)
    print(f"Picture: {folder / f'{arm}.png'}")


def measure_arm(
    recipe: Recipe, arm: str, *, out: Path, steps: int
) -> "list[RangeTest]":
    """Make the range tests of an arm, with the first of its seeds.

    Args:
        recipe, arm: whose images, weights and strategy.
        out: where weights "run:..." are looked for first.
        steps: of each test.

    Raises:
        InputError: something the recipe names is not there or does not fit.
    """
    config = recipe.arms[arm]
    check_arm(config, arm)
    # Only now: it brings JAX, which takes seconds.
    from jaxmed.training.lr_finder.sweep import find_learning_rates

    with naming(arm):
        data = load_part(config.data)
        seed = config.train.seeds[0]
        prepared = prepare_arm(config, data, seed=seed, out=out)
        print(prepared.start.note)
        print(prepared.strategy.describe(prepared.model), flush=True)
        return find_learning_rates(
            prepared.model,
            data,
            prepared.strategy,
            prepared.training,
            steps=steps,
        )


def format_tests(tests: "Sequence[RangeTest]") -> str:
    """Return a table with a line per test, and the notes below it."""
    from jaxmed.report.figures.style import format_rate

    rows = [("phase", "group", "in the recipe", "steepest", "valley")]
    rows += [
        (t.phase, t.group, *map(format_rate, (t.own, t.steepest, t.valley)))
        for t in tests
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    notes = [f"{t.phase}, {t.group}: {t.note}" for t in tests if t.note]
    return "\n".join([*(line.rstrip() for line in lines), *notes])


def write_table(path: Path, tests: "Sequence[RangeTest]") -> None:
    """Write the curves, a row per step."""
    rows = (
        (test.phase, test.group, *map(float, row))
        for test in tests
        for row in zip(test.rates, test.losses, test.smoothed, strict=True)
    )
    write_csv(path, ("phase", "group", "rate", "loss", "smoothed"), rows)


def write_picture(path: Path, tests: "Sequence[RangeTest]", title: str) -> None:
    """Draw the curves, a panel per test."""
    from jaxmed.report.figures.style import png
    from jaxmed.report.figures.training_curves import Panel, draw_range_tests

    phases = [test.phase for test in tests]
    names = [field.name for field in fields(Panel) if field.name != "title"]
    panels = [
        Panel(
            title=t.phase if phases.count(t.phase) == 1 else f"{t.phase}: {t.group}",
            **{name: getattr(t, name) for name in names},
        )
        for t in tests
    ]
    with atomic_write(path) as part:
        part.write_bytes(png(draw_range_tests(panels, title)))
