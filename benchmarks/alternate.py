"""Programs run in turn, so that what slows the machine slows all of them."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a program.

    Attributes:
        seconds: from the start of its process to its end: imports, set-up and
            compilation included.
        processor_seconds: of all its threads and processes together, which other
            programs on the machine lengthen less.
        peak_mb: the most memory that it, or one of its processes, held, in 10^6 bytes.
        result: what it wrote as JSON to the file named last on its command line.
    """

    seconds: float
    processor_seconds: float
    peak_mb: float
    result: dict


class Failed(Exception):
    """A program ended with an error or ran out of time; its log is the message."""


def run_in_turn(
    programs: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[Run]]:
    """Run every program once a round; the order turns round with every round.

    Args:
        programs: a command line each, to which `--out FILE` is added.
        rounds: how often.

    Raises:
        SystemExit: a program failed; what it printed comes before.
    """
    runs: dict[str, list[Run]] = {name: [] for name in programs}
    for number in range(rounds):
        names = list(programs)[:: 1 if number % 2 == 0 else -1]
        for name in names:
            try:
                run = run_once(programs[name])
            except Failed as failed:
                sys.exit(str(failed))
            runs[name].append(run)
            print(
                f"  round {number + 1}/{rounds}  {name:12} {run.seconds:8.1f} s "
                f"{run.peak_mb:8.0f} MB",
                flush=True,
            )
    return runs


def medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Return the median seconds of each program."""
    return {
        name: statistics.median(run.seconds for run in every)
        for name, every in runs.items()
    }


def processor_medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Return the median processor seconds of each program."""
    return {
        name: statistics.median(run.processor_seconds for run in every)
        for name, every in runs.items()
    }


def save(path: Path, content: dict) -> None:
    """Write results as JSON; runs become plain dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, default=asdict)
    path.write_text(text + "\n", encoding="utf-8")


def run_once(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Run:
    """Run a program to its end.

    Args:
        command: to which `--out FILE` is added.
        environment: variables beside this process's.
        timeout: seconds after which it is killed.

    Raises:
        Failed: it ended with an error or was killed, and wrote no result before. A
            result that a program writes piece by piece counts as far as it got.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "out.json"), Path(folder, "log.txt")
        with log.open("wb") as file:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                # A group of its own, so that what it started ends with it.
                start_new_session=True,
            )
            kill = partial(os.killpg, process.pid, signal.SIGKILL)
            timer = threading.Timer(timeout or threading.TIMEOUT_MAX, kill)
            timer.daemon = True
            timer.start()
            try:
                # Not process.wait: only this tells the memory of this one process.
                _, status, usage = os.wait4(process.pid, 0)
            except KeyboardInterrupt:
                kill()
                raise
            finally:
                timer.cancel()
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            text = log.read_text(encoding="utf-8", errors="replace")[-4000:]
            message = f"{text}\n{' '.join(command)} failed with {process.returncode}."
            if not out.exists():
                raise Failed(message)
            print(message, file=sys.stderr)
        result = json.loads(out.read_text(encoding="utf-8"))
    return Run(
        seconds=seconds,
        processor_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * 1024 / 1e6,
        result=result,
    )
