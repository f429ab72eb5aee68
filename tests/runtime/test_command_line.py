"""Ends of the programs: a reader that goes away, and `jaxmed convert`."""

import subprocess
import sys

import pytest

from jaxmed.errors import InputError
from jaxmed.runtime.command_line import run_command

PROGRAMS = [
    ["jaxmed.experiments", "--help"],
    ["jaxmed.experiments", "run", "--help"],
    ["jaxmed.experiments", "list"],
    ["jaxmed_convert", "list"],
    ["jaxmed.experiments", "convert", "list"],
]


@pytest.mark.parametrize("words", PROGRAMS, ids=" ".join)
def test_a_reader_that_goes_away_ends_the_program_quietly(words):
    pipe = 'set -o pipefail; "$@" | true'
    command = ["bash", "-c", pipe, "-", sys.executable, "-m", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.returncode in (0, 141)


def test_convert_is_the_program_jaxmed_convert():
    def printed(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    ours = printed("jaxmed.experiments", "convert", "list")
    assert ours == printed("jaxmed_convert", "list")
    assert "usage: jaxmed convert" in printed("jaxmed.experiments", "convert", "--help")
    assert "convert" in printed("jaxmed.experiments", "--help")


def test_errors_of_the_user_are_sentences_and_others_are_raised(capsys):
    def refuse():
        raise InputError("No such thing.")

    assert run_command(refuse, lambda: "Error") == 2
    assert capsys.readouterr().err == "Error: No such thing.\n"
    assert run_command(lambda: None, lambda: "Error") == 0
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0, lambda: "Error")
