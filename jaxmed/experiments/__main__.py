"""The command line: `python -m jaxmed.experiments COMMAND ...`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from jaxmed.cache import keep_compiled_programs
from jaxmed.errors import InputError
from jaxmed.experiments.flags import take_overrides

# A command is a module with HELP, add_arguments and execute, and a line here.
COMMANDS = ("list", "inspect", "advise", "find-lr", "run", "report")
# Commands that take the fields of the configuration as flags.
CONFIGURABLE = ("run", "advise", "find-lr", "inspect")
# What a shell reports for a program that SIGINT ended.
INTERRUPTED = 130
# Seconds that an interrupted program gets to tidy up.
GRACE = 1.0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        sentence = message[0].upper() + message[1:]
        raise InputError(f"{sentence}; `{self.prog} --help` shows what is possible.")


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of all commands."""
    parser = Parser(
        prog="python -m jaxmed.experiments",
        description="Fine-tune ImageNet-pretrained CNNs on medical images.",
        epilog="`run --help` lists every setting with its default.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module: Any = import_module(f"jaxmed.experiments.{name.replace('-', '_')}")
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Carries out a command line.

    Returns:
        The exit code: 0; 1 if `inspect` found leakage; 2 for something the user can
        put right, said in a sentence on the error stream; 130 if interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        overrides: dict[str, Any] = {}
        if words and words[0] in CONFIGURABLE:
            words, overrides = take_overrides(words)
        arguments = build_parser().parse_args(words)
        arguments.overrides = overrides
        return arguments.execute(arguments) or 0
    except InputError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say_interrupted(words)
        return INTERRUPTED


def _say_interrupted(words: Sequence[str]) -> None:
    goes_on = " The same command goes on where it stopped."
    sentence = f"Interrupted.{goes_on if words[:1] == ['run'] else ''}"
    print(f"\n{sentence}", file=sys.stderr)


def _interrupt(*_: Any) -> NoReturn:
    """Raises KeyboardInterrupt, and sees to it that the program ends.

    Python raises it wherever the program happens to be; in a callback of the garbage
    collector, as JAX has one, it is printed and forgotten.
    """

    def insist() -> None:
        _say_interrupted(sys.argv[1:])
        _leave()

    timer = threading.Timer(GRACE, insist)
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt


def _leave() -> NoReturn:
    # At once: checkpoints are complete, and Orbax's threads, which the interrupt may
    # have caught at work, would print tracebacks while Python shuts down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupt)
    keep_compiled_programs()
    code = main()
    if code == INTERRUPTED:
        _leave()
    sys.exit(code)
