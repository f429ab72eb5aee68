"""`run`: trains every arm and seed of a recipe, evaluates, writes the report."""

from typing import Any

from jaxmed import hosts
from jaxmed.errors import InputError
from jaxmed.experiments.arguments import (
    add_out,
    add_processes,
    add_recipe,
    processes_of,
)
from jaxmed.experiments.flags import describe_fields
from jaxmed.experiments.recipes import find_recipe, load_recipe, needed_recipes

HELP = "train every arm and seed of a recipe, evaluate, write the report"
DESCRIPTION = """\
Trains every arm and seed of a recipe, evaluates and explains them, and writes
OUT/NAME/report.html. Run again, it goes on where it stopped: finished runs are
skipped, an interrupted one resumes after its last checkpoint, and ends as if it had
not been interrupted. Ctrl-C (exit code 130), SIGTERM (143) and SIGUSR1 (138; SLURM's
--signal=USR1@120) save after the step at work and stop."""
FIELDS = """\
Every field of a recipe is a flag, for every arm of the recipe (not for the recipes
that it needs). Dashes and underscores are alike; a list is written with commas:
  --train.batch-size 16 --train.seeds 0,1,2 --train.options.learning-rate 1e-3
With --arms.NAME before it, it is for that arm alone:
  --arms.two_phase.model.weights file:resnet18.pth
"""


def add_arguments(parser: Any) -> None:
    """Declares the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    add_out(parser)
    add_processes(parser)
    parser.add_argument(
        "--arms", metavar="A,B", help="only these arms (default: all of them)"
    )
    parser.description = DESCRIPTION
    parser.epilog = f"{FIELDS}\n{describe_fields()}"


def execute(arguments: Any) -> None:
    """Carries the command out."""
    arms = None
    if arguments.arms is not None:
        arms = [arm.strip() for arm in arguments.arms.split(",") if arm.strip()]
        if not arms:
            raise InputError("--arms needs at least one name.")
    joined = processes_of(arguments)
    recipe = load_recipe(find_recipe(arguments.recipe), arguments.overrides, arms=arms)
    recipes = [*needed_recipes(recipe), recipe]
    if joined is not None:
        hosts.start(**joined)
    # Only now: it brings JAX, which takes seconds.
    from jaxmed.experiments.experiment import run_recipes

    print(f"Report: {run_recipes(recipes, arguments.out)}")
