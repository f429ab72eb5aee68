"""`run`: trains every arm and seed of a recipe, evaluates, writes the report."""

import sys
from pathlib import Path
from typing import Any

from jaxmed.config.flags import describe_fields, split_list
from jaxmed.config.multi_dataset import Board, is_board, load_board
from jaxmed.config.recipes import find_recipe, load_recipe, needed_recipes
from jaxmed.errors import InputError
from jaxmed.experiments.commands.arguments import (
    add_out,
    add_processes,
    add_recipe,
    processes_of,
)
from jaxmed.runs.layout import experiment_folder, has_metrics, runs_of_experiment
from jaxmed.runtime import distributed

HELP = "train every arm and seed of a recipe, evaluate, write the report"
DESCRIPTION = """\
Trains every arm and seed of a recipe, evaluates and explains them, and writes
OUT/NAME/report.html. Run again, it goes on where it stopped: finished runs are
skipped, an interrupted one resumes after its last checkpoint, and ends as if it had
not been interrupted. Ctrl-C (exit code 130), SIGTERM (143), SIGHUP (129, of a closed
terminal) and SIGUSR1 (138; SLURM's --signal=USR1@120) save after the step at work and
stop. With other settings of evaluate or explain, finished runs are not trained again:
that alone is done anew.
Of a recipe of several sets of images, such as medmnist_leaderboard, every set is an
experiment OUT/NAME/SET, and OUT/NAME/leaderboard.html and .csv have all of them. A run
that fails, such as one whose images cannot be downloaded, does not stop the others, and
is failed_lines at the end (exit code 3)."""
FIELDS = """\
Every field of a recipe is a flag, for every arm of the recipe (not for the recipes
that it needs). Dashes and underscores are alike; a list is written with commas:
  --train.batch-size 16 --train.seeds 0,1,2 --train.options.learning-rate 1e-3
With --arms.NAME before it, it is for that arm alone:
  --arms.two_phase.model.weights file:resnet18.pth
and so --sets.NAME for one set of a recipe of several:
  --sets.breastmnist.data.source npz:breastmnist.npz
"""
# The exit code when some runs of a leaderboard failed.
FAILED = 3


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments; the configuration's are taken out before."""
    add_recipe(parser)
    add_out(parser)
    add_processes(parser)
    parser.add_argument(
        "--arms", metavar="A,B", help="only these arms (default: all of them)"
    )
    parser.add_argument(
        "--sets", metavar="A,B", help="only these sets of a recipe of several"
    )
    parser.add_argument(
        "--extend",
        action="store_true",
        help="train finished runs on to the epochs that are asked for now, as if they "
        "had been asked for at once",
    )
    parser.description = DESCRIPTION
    parser.epilog = f"{FIELDS}\n{describe_fields()}"


def execute(arguments: Any) -> int:
    """Carry the command out.

    Returns:
        The exit code.
    """
    path = find_recipe(arguments.recipe)
    chosen: dict[str, Any] = {"arms": _names(arguments.arms, "--arms")}
    sets, board = _names(arguments.sets, "--sets"), None
    joined = processes_of(arguments)
    if is_board(path):
        board = load_board(path, arguments.overrides, sets=sets, **chosen)
        recipes = list(board.recipes.values())
        if arguments.extend:
            raise InputError(
                f"--extend: {path} is a recipe of several sets, and one is extended "
                "at a time. Give the config.toml of a run as the recipe."
            )
    elif sets:
        raise InputError(f"--sets: {path} is not a recipe of several sets.")
    else:
        recipes = [load_recipe(path, arguments.overrides, **chosen)]
    needed = {need.path: need for recipe in recipes for need in needed_recipes(recipe)}
    if joined is not None:
        distributed.initialize(**joined)
    # Only now: it brings JAX, which takes seconds.
    from jaxmed.experiments.pipeline.experiment import run_recipes

    if board is None:
        together = [*needed.values(), *recipes]
        report = run_recipes(together, arguments.out, extend=arguments.extend)
        print(f"Report: {report}")
        return 0
    if needed:
        run_recipes(list(needed.values()), arguments.out)
    return _run_board(board, arguments.out)


def _names(text: str | None, flag: str) -> list[str] | None:
    """Read "A,B"; None, where the flag is not given, stands for all."""
    if text is None:
        return None
    names = split_list(text)
    if not names:
        raise InputError(f"{flag} needs at least one name.")
    return names


def _run_board(board: Board, out: Path) -> int:
    from jaxmed.experiments.pipeline.leaderboard import (
        describe_failures,
        rebuild_leaderboard,
        run_board,
    )

    failures = run_board(board, out)
    folder = experiment_folder(out, board.name)
    failed_lines = describe_failures(failures)
    runs = [run for set_ in folder.glob("*") for run in runs_of_experiment(set_)]
    if failed_lines and not any(map(has_metrics, runs)):
        raise InputError(f"No run could be made. {' '.join(failed_lines)}")
    page = distributed.run_on_process_zero(lambda: str(rebuild_leaderboard(folder)))
    print(f"Leaderboard: {page}")
    if failed_lines and distributed.is_process_zero():
        failed_lines = [f"{len(failures):,} failed:", *failed_lines]
        print("\n".join(failed_lines), file=sys.stderr)
    return FAILED if failures else 0
