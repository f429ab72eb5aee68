"""Checkpoints of a run: the last two to go on from, and the best epochs they need.

Each is a folder that Orbax writes to a temporary place, in a thread beside the
training; it gets its name when it is complete and its checksums are in it, and only
then is an older one removed. A run that is killed at any moment finds its last ones.

Of several processes the first writes, since it has the whole state as all have; all
read what it chooses.
"""

import tempfile
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxmed.checkpoints.manifest import (
    check_room,
    find_damage,
    find_reason,
    quiet,
    write_manifest,
)
from jaxmed.checkpoints.recovery import Position, positions_in, read_progress, recover
from jaxmed.errors import InputError
from jaxmed.models.parameters import Arrays
from jaxmed.runtime import distributed
from jaxmed.runtime.files import (
    UNFINISHED,
    atomic_folder,
    remove_folder,
    remove_unfinished,
)
from jaxmed.runtime.locks import locked
from jaxmed.runtime.sharding import to_host


class Checkpoints:
    """The checkpoints folder of one run. Use `open_checkpoints`.

    Attributes:
        latest: the one that was read or given to `save` last.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.latest: Position | None = None
        self._needed: set[Position] = set()
        # One thread: what is written later is complete later.
        self._writer = ThreadPoolExecutor(1, "checkpoints")
        self._pending: Future[None] | None = None

    def save(
        self,
        position: Position,
        weights: Arrays,
        beside: Any,
        progress: dict,
        *,
        keep: Collection[int],
    ) -> None:
        """Copies all that is given to host memory and writes it while training goes on.

        What this one and the one before need stays, all else is removed.

        Args:
            position: beyond the last one.
            weights: all parameters and statistics, by path.
            beside: what the phase needs beside them to go on, a pytree of arrays.
            progress: what `load_progress` returns: plain values; "best" must be None
                or a dict with the "epoch" of the best checkpoint.
            keep: epochs whose checkpoints this one needs.

        Raises:
            InputError: the one before could not be written.
        """
        self.wait()
        needed = {position, *map(Position, keep)}
        # The training goes on with its history while this is written.
        progress = deepcopy(progress) | {"needs": sorted(map(str, needed))}
        if distributed.is_process_zero():
            # Training donates its buffers to the next step.
            trees = to_host({"weights": weights, "optimizer": beside})
            self._pending = self._writer.submit(
                self._write, position, trees, progress, needed | self._needed
            )
        self.latest, self._needed = position, needed

    def wait(self) -> None:
        """Waits until what was given to `save` is on the disk.

        Raises:
            InputError: it could not be written.
        """
        if self._pending:
            pending, self._pending = self._pending, None
            pending.result()

    def check(self) -> None:
        """Raises what `wait` would, if that is known already."""
        if self._pending and self._pending.done():
            self.wait()

    def _write(
        self, position: Position, trees: dict, progress: dict, keep: set[Position]
    ) -> None:
        try:
            check_room(self.folder, trees)
            with atomic_folder(self.folder / str(position)) as unfinished, quiet():
                # Orbax refuses an empty tree, as of weights without an optimizer.
                items = {
                    name: ocp.args.StandardSave(tree)
                    for name, tree in trees.items()
                    if jax.tree.leaves(tree)
                }
                args = ocp.args.Composite(**items, progress=ocp.args.JsonSave(progress))
                _orbax().save(unfinished, args=args)
                write_manifest(unfinished)
            for old in positions_in(self.folder):
                if old not in keep:
                    remove_folder(self.folder / str(old))
        except Exception as error:
            reason = find_reason(error)
            if reason is None:
                raise
            raise InputError(
                f"The checkpoint of {position.describe()} cannot be written to "
                f"{self.folder}: {reason}. Those before it are as they were; put that "
                "right and run the same again, and it goes on from them."
            ) from error

    def load_progress(self) -> dict | None:
        """Returns the progress of the last checkpoint that is as it was written.

        Newer ones that are not are renamed, and said on the error stream.

        Returns:
            None where nothing was saved.

        Raises:
            InputError: there are checkpoints, and none is whole.
        """
        name = distributed.run_on_process_zero(lambda: str(recover(self.folder) or ""))
        self.latest = Position.parse(name) if name else None
        if self.latest is None:
            return None
        with distributed.raise_on_all():
            if not (self.folder / name).is_dir():
                raise InputError(
                    f"There is no checkpoint {self.folder / name}, which the first "
                    "process has. All must share this folder."
                )
        progress = read_progress(self.folder, self.latest)
        self._needed = set(map(Position.parse, progress["needs"]))
        return progress

    def load_optimizer(self, like: Any) -> Any:
        """Restores what was saved beside the weights, to host memory.

        Args:
            like: a pytree of arrays with its structure and shapes.

        Raises:
            InputError: what was saved has another structure.
        """
        empty = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            return self._restore(
                self.latest, optimizer=ocp.args.StandardRestore(empty)
            )["optimizer"]
        except ValueError as error:
            raise InputError(
                "The checkpoints are of a training with other optimizers, or another "
                "ema, than this one. Use another folder, or the settings of then."
            ) from error

    def load_weights(self, epoch: int | None = None) -> Arrays:
        """Restores parameters and statistics to host memory.

        Args:
            epoch: of the checkpoint; the one of `load_progress` if None.
        """
        position = self.latest if epoch is None else Position(epoch)
        return self._restore(position, weights=ocp.args.StandardRestore())["weights"]

    def _restore(self, position: Position | None, **items: Any) -> Any:
        assert position is not None, "load_progress says whether there is a checkpoint"
        return _orbax().restore(
            self.folder / str(position), args=ocp.args.Composite(**items)
        )


@contextmanager
def open_checkpoints(folder: Path) -> Iterator[Checkpoints]:
    """Opens a run's checkpoints folder to write to it; it is made if need be.

    At the end it waits until all is written. Until then the folder is locked.

    Raises:
        InputError: the folder cannot be written to, or what was saved last; or another
            process trains with it.
    """
    folder = Path(folder).absolute()
    with ExitStack() as held:
        distributed.run_on_process_zero(lambda: _prepare(folder, held))
        checkpoints = Checkpoints(folder)
        try:
            yield checkpoints
        finally:
            checkpoints._writer.shutdown()
        distributed.run_on_process_zero(checkpoints.wait)


def _prepare(folder: Path, held: ExitStack) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=folder).cleanup()
        held.enter_context(locked(folder))
        # What a killed run was writing or removing.
        remove_unfinished(folder)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be written to: {error.strerror}. Checkpoints "
            "go there; choose another one."
        ) from error


def save_weights(folder: Path, weights: Arrays, best: dict) -> None:
    """Writes weights as the only checkpoint, which `load_best_weights` reads.

    Args:
        folder: of the checkpoints; a new one.
        weights: all parameters and statistics, by path.
        best: which epoch they come from; may be empty.
    """
    best = {"epoch": 0} | best
    with open_checkpoints(folder) as checkpoints:
        checkpoints.save(Position(best["epoch"]), weights, {}, {"best": best}, keep=())


def load_best_weights(folder: Path) -> tuple[Arrays, dict]:
    """Reads the best checkpoint of a run; changes nothing.

    Args:
        folder: a run's checkpoints folder.

    Returns:
        Parameters and statistics by path, as NumPy arrays, and the run's progress,
        whose "best" says which epoch they come from.

    Raises:
        InputError: there is no finished epoch in the folder, or it is damaged.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise InputError(f"There are no checkpoints: {folder} is not a folder.")
    positions = positions_in(folder)
    if not positions:
        raise InputError(f"There is no complete checkpoint in {folder}.")
    progress = _read_whole(folder, positions[-1])
    if not progress["best"]:
        raise InputError(f"No epoch is finished in {folder}.")
    checkpoints, epoch = Checkpoints(folder), progress["best"]["epoch"]
    _read_whole(folder, Position(epoch))
    return checkpoints.load_weights(epoch), progress


def _read_whole(folder: Path, position: Position) -> dict:
    if damage := find_damage(folder / str(position)):
        raise InputError(
            f"The checkpoint {folder / str(position)} {damage}. Delete the run's "
            "metrics.json and run it again: it goes on from the last good checkpoint."
        )
    return read_progress(folder, position)


def _orbax() -> ocp.Checkpointer:
    # Each process by itself: Orbax would have all of them write together.
    rank = distributed.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=rank, active_processes={rank}, barrier_sync_key_prefix=f"{rank}"
    )
    options = ocp.CompositeOptions(multiprocessing_options=alone)
    handler = ocp.CompositeCheckpointHandler(composite_options=options)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)
