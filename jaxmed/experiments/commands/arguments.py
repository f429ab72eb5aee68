"""Arguments that several commands take."""

from pathlib import Path
from typing import Any

from jaxmed.errors import InputError


def add_recipe(parser: Any) -> None:
    """Declare which recipe a command is about."""
    parser.add_argument(
        "recipe",
        metavar="NAME_OR_TOML",
        help="a name that `list` shows, or the path of a recipe or config.toml",
    )


def add_out(parser: Any, meaning: str = "folder of all experiments") -> None:
    """Declare the folder of all experiments.

    Args:
        parser: of the command.
        meaning: what the command does with it.
    """
    parser.add_argument(
        "--out",
        metavar="DIR",
        type=Path,
        default=Path("runs"),
        help=f"{meaning} (default: runs)",
    )


def add_processes(parser: Any) -> None:
    """Declare how a command learns of the other processes that it runs as."""
    group = parser.add_argument_group(
        "several processes, each with its own devices (see docs/scaling.md)"
    )
    group.add_argument(
        "--distributed",
        action="store_true",
        help="SLURM, a TPU slice, Open MPI or Kubernetes says which there are",
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="address of the first process"
    )
    group.add_argument("--processes", metavar="N", type=int, help="how many there are")
    group.add_argument(
        "--process", metavar="I", type=int, help="which one this is, from 0"
    )


def processes_of(arguments: Any) -> dict[str, Any] | None:
    """Return the arguments of `hosts.start`, None for a process that is alone.

    Raises:
        InputError: the command's arguments contradict each other.
    """
    names = ("coordinator", "processes", "process")
    options = {name: getattr(arguments, name) for name in names}
    address, processes, process = options.values()
    missing = [f"--{name}" for name, value in options.items() if value is None]
    if len(missing) == len(names):
        return {} if arguments.distributed else None
    if arguments.distributed:
        raise InputError(
            "--distributed takes the processes from the environment; leave it out, or "
            "--coordinator, --processes and --process."
        )
    if missing:
        raise InputError(
            "--coordinator, --processes and --process belong together; "
            f"{' and '.join(missing)} is missing."
        )
    return {"address": address, "processes": processes, "process": process}
