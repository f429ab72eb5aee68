"""Checkpoints of a run: the last epoch to go on from, and the best ones to keep.

Each is written by Orbax to a temporary folder and renamed when complete, so that a
run that is killed while writing still finds its previous checkpoint.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from jaxmed.errors import InputError
from jaxmed.models.parameters import Arrays
from jaxmed.training.sharding import to_host


class _Chosen(policies.PreservationPolicy):
    """Keeps the epochs that the last `Checkpoints.save` named, and that one."""

    def __init__(self):
        self.epochs: Collection[int] | None = None

    def should_preserve(self, checkpoints, *, context):
        del context
        kept = self.epochs
        return [kept is None or info.step in kept for info in checkpoints]


class Checkpoints:
    """The checkpoints folder of one run. Use `open_checkpoints`."""

    def __init__(self, manager: ocp.CheckpointManager, chosen: _Chosen):
        self._manager = manager
        self._chosen = chosen

    def save(
        self,
        epoch: int,
        weights: Arrays,
        optimizer: Any,
        progress: dict,
        *,
        keep: Collection[int],
    ) -> None:
        """Writes the state after an epoch and removes what it replaces.

        Args:
            epoch: epochs done since the start of the run.
            weights: all parameters and statistics, by path.
            optimizer: what the phase needs beside them to go on, a pytree of arrays.
            progress: what `load_progress` returns: plain values; "best" must be a
                dict with the "epoch" of the best checkpoint.
            keep: epochs to keep beside this one; no others.
        """
        self._chosen.epochs = {epoch, *keep}
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                weights=ocp.args.StandardSave(weights),
                optimizer=ocp.args.StandardSave(optimizer),
                progress=ocp.args.JsonSave(progress),
            ),
        )

    def load_progress(self) -> dict | None:
        """Returns the progress saved last, or None where nothing was saved."""
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        args = ocp.args.Composite(progress=ocp.args.JsonRestore())
        return self._manager.restore(epoch, args=args)["progress"]

    def load_optimizer(self, like: Any) -> Any:
        """Restores the last optimiser state.

        Args:
            like: a pytree of arrays with its structure, shapes and placement.

        Raises:
            InputError: what was saved has another structure.
        """
        args = ocp.args.Composite(optimizer=ocp.args.StandardRestore(_abstract(like)))
        epoch = self._manager.latest_step()
        try:
            return self._manager.restore(epoch, args=args)["optimizer"]
        except ValueError as error:
            raise InputError(
                "The checkpoints are of a training with other optimisers, or another "
                "ema, than this one. Use another folder, or the settings of then."
            ) from error

    def load_weights(self, epoch: int | None = None) -> Arrays:
        """Restores parameters and statistics to host memory.

        Args:
            epoch: of the checkpoint; the last one if None.
        """
        if epoch is None:
            epoch = self._manager.latest_step()
        assert epoch is not None, "load_progress says whether there is a checkpoint"
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        saved = self._manager.item_metadata(epoch)["weights"]
        like = {
            path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here)
            for path, leaf in saved.items()
        }
        args = ocp.args.Composite(weights=ocp.args.StandardRestore(like))
        return to_host(self._manager.restore(epoch, args=args)["weights"])


@contextmanager
def open_checkpoints(folder: Path, *, read_only: bool = False) -> Iterator[Checkpoints]:
    """Opens a run's checkpoints folder.

    Args:
        folder: created if it is to be written to.
        read_only: leaves the folder as it is; another process may be writing to it.
    """
    folder, chosen = Path(folder).absolute(), _Chosen()
    options = ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        # What a killed run was writing.
        cleanup_tmp_directories=not read_only,
        # Training donates its buffers to the next step; writing before going on is
        # what makes it safe to read them.
        enable_async_checkpointing=False,
        preservation_policy=chosen,
    )
    handlers = {
        "weights": ocp.StandardCheckpointHandler(),
        "optimizer": ocp.StandardCheckpointHandler(),
        "progress": ocp.JsonCheckpointHandler(),
    }
    with ocp.CheckpointManager(
        folder, options=options, item_handlers=handlers
    ) as manager:
        yield Checkpoints(manager, chosen)


def load_best_weights(folder: Path) -> tuple[Arrays, dict]:
    """Reads the best checkpoint of a run.

    Args:
        folder: a run's checkpoints folder.

    Returns:
        Parameters and statistics by path, as NumPy arrays, and the run's progress,
        whose "best" says which epoch they come from.

    Raises:
        InputError: there is no checkpoint in the folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There are no checkpoints: {folder} is not a folder.")
    with open_checkpoints(folder, read_only=True) as checkpoints:
        progress = checkpoints.load_progress()
        if progress is None:
            raise InputError(f"There is no complete checkpoint in {folder}.")
        return checkpoints.load_weights(progress["best"]["epoch"]), progress


def _abstract(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=leaf.sharding
        ),
        tree,
    )
