"""Which of a run's checkpoints to go on from when some are damaged."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from jaxmed.checkpoints.manifest import find_damage
from jaxmed.errors import InputError

DAMAGED = "damaged-"


class Position(NamedTuple):
    """How far a training is; as text the name of its checkpoint, "3" or "3+120".

    Attributes:
        epochs: those that are finished.
        steps: optimizer steps of the next one.
    """

    epochs: int
    steps: int = 0

    def __str__(self) -> str:
        return f"{self.epochs}+{self.steps}" if self.steps else str(self.epochs)

    @classmethod
    def parse(cls, name: str) -> "Position":
        """Reads what `str` gives."""
        return cls(*map(int, name.split("+")))

    def describe(self) -> str:
        """Returns words such as "epoch 3" or "step 120 of epoch 4"."""
        if self.steps:
            return f"step {self.steps} of epoch {self.epochs + 1}"
        return f"epoch {self.epochs}"


def positions_in(folder: Path) -> list[Position]:
    """Returns the checkpoints of a folder, the newest last."""
    names = [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted(
        Position.parse(name) for name in names if name.replace("+", "", 1).isdigit()
    )


def read_progress(folder: Path, position: Position) -> dict:
    """Reads what `Checkpoints.save` was told of the progress."""
    path = folder / str(position) / "progress" / "metadata"
    return json.loads(path.read_text(encoding="utf-8"))


def recover(folder: Path) -> Position | None:
    """Finds the newest checkpoint that is whole, with all that it needs.

    Newer ones are renamed, to "damaged-" and what they were called, and a sentence on
    the error stream says so. None is deleted.

    Returns:
        None if there is no checkpoint.

    Raises:
        InputError: there are some, and none is whole; nothing is renamed.
    """
    faults = []
    for position in reversed(positions_in(folder)):
        fault = _find_fault(folder, position)
        if not fault:
            break
        faults.append((position, fault))
    else:
        if not faults:
            return None
        raise InputError(
            f"No checkpoint in {folder} can be used: {faults[0][1]}. Move the folder "
            "away to begin anew, or put back a copy of it."
        )
    for newer, fault in faults:
        put = _set_aside(folder / str(newer))
        print(
            f"The checkpoint of {newer.describe()} cannot be used: {fault}. It is "
            f"{put.name} now, and training goes on after {position.describe()}.",
            file=sys.stderr,
            flush=True,
        )
    return position


def _find_fault(folder: Path, position: Position) -> str | None:
    """Returns why a checkpoint cannot be gone on from, if so."""
    if damage := find_damage(folder / str(position)):
        return f"{folder / str(position)} {damage}"
    for name in read_progress(folder, position)["needs"]:
        if name != str(position) and (damage := find_damage(folder / name)):
            return f"{folder / name}, the best epoch until then, {damage}"
    return None


def _set_aside(path: Path) -> Path:
    put, number = path.with_name(DAMAGED + path.name), 1
    while put.exists():
        number += 1
        put = path.with_name(f"{DAMAGED}{path.name}-{number}")
    return path.rename(put)
