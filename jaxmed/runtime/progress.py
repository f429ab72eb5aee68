"""Progress of anything that takes more than two seconds.

On a terminal it is a rich progress bar; elsewhere (a log file, a batch job) plain
lines, at most one every ten seconds and one at the end. Of several processes the first
alone shows it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxmed.runtime import distributed

Advance = Callable[..., None]
PLAIN_INTERVAL = 10.0


@contextmanager
def progress(description: str, total: int, *, unit: str = "") -> Iterator[Advance]:
    """Shows how far a piece of work is.

    Args:
        description: what is being done; the start of the line.
        total: the amount of work, in units.
        unit: the name of a unit in the plural, such as "images"; the speed in units
            per second is shown with it.

    Yields:
        A function `advance(amount, **fields)` that adds to the work done and shows
        the fields, such as `loss=0.31`, behind it. Floats get four digits.
    """
    if not distributed.is_process_zero():
        yield lambda amount, **fields: None
    elif sys.stderr.isatty():
        with _terminal(description, total, unit) as advance:
            yield advance
    else:
        with _plain(description, total, unit) as advance:
            yield advance


@contextmanager
def _terminal(description: str, total: int, unit: str) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(description, total=total, note="")
        started, done, note = time.monotonic(), 0, ""

        def advance(amount: int, **fields: object) -> None:
            nonlocal done, note
            done += amount
            note = _note(done, started, unit, fields)
            bar.update(task, advance=amount, note=note)

        yield advance


@contextmanager
def _plain(description: str, total: int, unit: str) -> Iterator[Advance]:
    started = printed = time.monotonic()
    done, note = 0, ""

    def advance(amount: int, **fields: object) -> None:
        nonlocal done, note, printed
        done += amount
        note = _note(done, started, unit, fields)
        if time.monotonic() - printed > PLAIN_INTERVAL and done < total:
            printed = time.monotonic()
            print(f"{description} {done}/{total} {note}", file=sys.stderr, flush=True)

    yield advance
    seconds = time.monotonic() - started
    line = f"{description} {done}/{total} {note} ({seconds:.1f} s)"
    print(line, file=sys.stderr, flush=True)


def _note(done: int, started: float, unit: str, fields: dict[str, object]) -> str:
    parts = [
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    ]
    if unit:
        speed = done / max(time.monotonic() - started, 1e-9)
        parts.append(f"{speed:.0f} {unit}/s")
    return "  ".join(parts)
