"""Runs programs in turn, so that what slows the machine slows all of them."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a program.

    Attributes:
        seconds: from the start of its process to its end: imports, set-up and
            compilation included.
        peak_mb: the most memory that it, or one of its processes, held, in 10^6 bytes.
        result: what it wrote as JSON to the file named last on its command line.
    """

    seconds: float
    peak_mb: float
    result: dict


def run_in_turn(
    programs: Mapping[str, Sequence[str]], rounds: int
) -> dict[str, list[Run]]:
    """Runs every program once a round; the order turns round with every round.

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
            run = _run(programs[name])
            runs[name].append(run)
            print(
                f"  round {number + 1}/{rounds}  {name:12} {run.seconds:8.1f} s "
                f"{run.peak_mb:8.0f} MB",
                flush=True,
            )
    return runs


def medians(runs: Mapping[str, Sequence[Run]]) -> dict[str, float]:
    """Returns the median seconds of each program."""
    return {
        name: statistics.median(run.seconds for run in every)
        for name, every in runs.items()
    }


def save(path: Path, content: dict) -> None:
    """Writes results as JSON; runs become plain dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, default=asdict)
    path.write_text(text + "\n", encoding="utf-8")


def _run(command: Sequence[str]) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder, "out.json"), Path(folder, "log.txt")
        with log.open("wb") as file:
            started = time.perf_counter()
            process = subprocess.Popen(
                [*command, "--out", str(out)], stdout=file, stderr=subprocess.STDOUT
            )
            # Not process.wait: only this tells the memory of this one process.
            _, status, usage = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
            sys.exit(f"{' '.join(command)} failed with {process.returncode}.")
        result = json.loads(out.read_text(encoding="utf-8"))
    return Run(seconds=seconds, peak_mb=usage.ru_maxrss * 1024 / 1e6, result=result)
