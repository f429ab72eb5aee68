"""The command line: `python -m jaxmed.experiments COMMAND ...`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from jaxmed.config.flags import take_overrides
from jaxmed.errors import InputError
from jaxmed.runtime import distributed
from jaxmed.runtime.cache import keep_compiled_programs
from jaxmed.runtime.command_line import run_command
from jaxmed.runtime.interrupts import Interrupted, request_stop

# A command is a module with HELP, add_arguments and execute, and a line here.
COMMANDS = (
    *("list", "inspect", "advise", "find-lr", "find-batch-size"),
    *("run", "report", "compare"),
    *("predict", "validate", "export"),
)
# The command that is the program `python -m jaxmed_convert`.
CONVERT = "convert"
# Commands that take the fields of the configuration as flags.
CONFIGURABLE = ("run", "advise", "find-lr", "find-batch-size", "inspect")
# What asks the program to stop: a user, the system, a batch system before its limit, or
# a terminal that is closed.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
# A shell reports a program that a signal ended by this and the signal's number.
BY_SIGNAL = 128
# Seconds that an interrupted program gets to tidy up.
GRACE = 1.0


class Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences like all others."""

    def error(self, message: str) -> NoReturn:
        sentence = message[0].upper() + message[1:]
        raise InputError(f"{sentence}; `{self.prog} --help` shows what is possible.")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = Parser(
        prog="python -m jaxmed.experiments",
        description="Fine-tune ImageNet-pretrained CNNs on medical images.",
        epilog="`run --help` lists every setting with its default.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module: Any = import_module(
            f"jaxmed.experiments.commands.{name.replace('-', '_')}"
        )
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=module.HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(command)
        command.set_defaults(execute=module.execute)
    # For the list of commands: `_execute` gives its arguments to `jaxmed_convert`.
    commands.add_parser(CONVERT, help="weights between PyTorch and jaxmed")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command line.

    Returns:
        The exit code: 0; 1 if `inspect` found leakage, or `validate` images that the
        run was trained on; 2 for something the user can
        put right, said in a sentence on the error stream; 3 if `predict` could not use
        some of the files, or `run` could not make some of a leaderboard's runs; if
        interrupted 128 more than the signal: 130 for SIGINT, 143 for SIGTERM, 138 for
        SIGUSR1, 129 for SIGHUP, and 141 where nobody reads what is printed.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return run_command(lambda: _execute(words), _error_prefix)
    except KeyboardInterrupt as interrupt:
        number = getattr(interrupt, "number", signal.SIGINT)
        _print_interrupted(words, number)
        return BY_SIGNAL + number


def _execute(words: list[str]) -> int | None:
    if words[:1] == [CONVERT]:
        program: Any = import_module("jaxmed_convert.__main__")
        return program.execute(words[1:], prog=f"jaxmed {CONVERT}")
    overrides: dict[str, Any] = {}
    if words and words[0] in CONFIGURABLE:
        words, overrides = take_overrides(words)
    arguments = build_parser().parse_args(words)
    arguments.overrides = overrides
    return arguments.execute(arguments)


def _error_prefix() -> str:
    if distributed.is_process_zero():
        return "Error"
    return f"Error in process {distributed.process_index()}"


def _print_interrupted(words: Sequence[str], number: int) -> None:
    if not distributed.is_process_zero():
        return
    goes_on = " The same command goes on where it stopped."
    how = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    sentence = f"Interrupted{how}.{goes_on if words[:1] == ['run'] else ''}"
    print(f"\n{sentence}", file=sys.stderr)


def _interrupt(number: int, _: Any) -> None:
    """Ask training to save and stop, or raise Interrupted and insist on an end.

    Python raises it wherever the program happens to be; in a callback of the garbage
    collector, as JAX has one, it is printed and forgotten.
    """
    if request_stop(number):
        # Not print, which the signal may have interrupted.
        os.write(2, b"\nStopping after this step; Ctrl-C again stops at once.\n")
        return

    def insist() -> None:
        _print_interrupted(sys.argv[1:], number)
        distributed.exit_now(BY_SIGNAL + number)

    timer = threading.Timer(GRACE, insist)
    timer.daemon = True
    timer.start()
    raise Interrupted(number)


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


def run_program() -> NoReturn:
    """Run the command line: the console script `jaxmed`, and this module itself."""
    for name in SIGNALS:
        # SIGUSR1 and SIGHUP are not everywhere.
        number = getattr(signal, name, None)
        # nohup has the program ignore the end of its terminal, and that stays so.
        if number and not (name == "SIGHUP" and _is_ignored(number)):
            signal.signal(number, _interrupt)
    keep_compiled_programs()
    code = main()
    # At once: checkpoints are complete, and Orbax's threads, which an interrupt may
    # have caught at work, would print tracebacks while Python shuts down.
    if code > BY_SIGNAL or (code and distributed.is_multiprocess()):
        distributed.exit_now(code)
    sys.exit(code)


if __name__ == "__main__":
    run_program()
