"""Figures of many runs, drawn by as many processes as there are processors.

Drawing takes most of a report's time, and matplotlib draws one figure at a time. The
processes are started as commands, not forked or spawned: a fork of a process in which
JAX has threads may hang, and a spawned one would run a user's script once more.
"""

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxmed.report.figures.catalog import Picture, run_figures
from jaxmed.runs.record import RunRecord
from jaxmed.runtime.memory import count_processors
from jaxmed.runtime.progress import Advance

# Fewer runs are drawn before another process has imported matplotlib; and each takes
# some 150 MB.
FEWEST, MOST = 4, 8
WORK = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from jaxmed.report.figures.workers import draw_unclaimed
draw_unclaimed(Path({folder!r}))
"""


class RunPictures:
    """Pictures of runs, which other processes begin to draw at once.

    Use it in a `with` block, at whose end they are stopped.

    Args:
        runs: whose figures.
        options: the other arguments of `run_figures`.
    """

    def __init__(self, runs: Sequence[RunRecord], *options: Any):
        self._runs, self._options = runs, options
        self._held, self._workers = ExitStack(), []

    def __enter__(self) -> "RunPictures":
        temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._folder = Path(self._held.enter_context(temporary))
        for number, run in enumerate(self._runs):
            content = pickle.dumps((run, *self._options))
            (self._folder / f"{number}.run").write_bytes(content)
        others = min(count_processors(), MOST) - 1
        if len(self._runs) < FEWEST:
            others = 0
        command = WORK.format(path=sys.path, folder=str(self._folder))
        for _ in range(others):
            worker = subprocess.Popen(
                [sys.executable, "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            self._held.callback(worker.wait)
            self._held.callback(worker.kill)
            self._workers.append(worker)
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def collect(self, advance: Advance) -> list[dict[str, Picture]]:
        """Draw what nobody has begun, wait for the others, and return all, by run.

        Args:
            advance: told of runs as they are done.
        """
        here = draw_unclaimed(self._folder, advance)
        for worker in self._workers:
            worker.wait()
        advance(len(self._runs) - here)
        pictures = []
        for number, run in enumerate(self._runs):
            drawn = self._folder / f"{number}.drawn"
            if drawn.exists():
                pictures.append(pickle.loads(drawn.read_bytes()))
            else:
                # Its process has failed; here the reason is seen.
                pictures.append(_draw(run, *self._options))
        return pictures


def draw_unclaimed(folder: Path, advance: Advance = lambda amount: None) -> int:
    """Draw runs that no process has claimed yet, and return how many.

    Args:
        folder: with a file for each run, NUMBER.run; gets NUMBER.drawn.
        advance: told of every run that is drawn here.
    """
    here = 0
    for number in range(len(list(folder.glob("*.run")))):
        try:
            claim = os.open(folder / f"{number}.claim", os.O_CREAT | os.O_EXCL)
        except OSError:  # taken; or the report was given up
            continue
        os.close(claim)
        job = pickle.loads((folder / f"{number}.run").read_bytes())
        part = folder / f"{number}.part"
        part.write_bytes(pickle.dumps(_draw(*job)))
        part.rename(folder / f"{number}.drawn")
        here += 1
        advance(1)
    return here


def _draw(run: RunRecord, *options: Any) -> dict[str, Picture]:
    figures = run_figures(run, *options)
    return {name: figure.picture for name, figure in figures.items()}
