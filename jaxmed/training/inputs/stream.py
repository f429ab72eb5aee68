"""Batches read while the devices compute, by grain, in processes or in threads.

Imports no JAX, because the processes that read do not need it.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jaxmed.data.batching import Batch
from jaxmed.data.images.lazy import LazyImages
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors

# Steps that each process, or the thread, reads ahead.
AHEAD = 2
MOST_WORKERS = 8

Read = tuple[np.ndarray, np.ndarray, np.ndarray]


def default_workers(images: Any) -> int:
    """Returns how many processes should read: 0 for an array, which a thread can.

    An array would be copied into each process, and nothing of it has to be decoded.
    Otherwise all cores but one, at least one and at most `MOST_WORKERS`.
    """
    if isinstance(images, np.ndarray):
        return 0
    return min(max(1, count_processors() - 1), MOST_WORKERS)


@dataclass(frozen=True)
class Source:
    """The steps of an epoch, each read when it is asked for; goes to the processes.

    Attributes:
        images: an array or `LazyImages`, uint8 (n, h, w, c).
        labels: int32 (n,) or (n, k).
        windows: indices and mask of each step, see `jaxmed.data.batching.windows`.
    """

    images: Any
    labels: np.ndarray
    windows: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Read:
        indices, mask = self.windows[index]
        # Padding is the image that stands before it over and over: read it once.
        rows, places = np.unique(indices, return_inverse=True)
        images = self.images[rows][places.reshape(indices.shape)]
        return images, self.labels[indices], mask

    def shared_by(self, workers: int) -> "Source":
        """Returns the source of one of several processes.

        In each, lazy images decode in its share of the processors: with a thread for
        every processor in every process, they would only wait for one another.
        """
        if not isinstance(self.images, LazyImages):
            return self
        threads = max(1, count_processors() // workers)
        return replace(self, images=replace(self.images, threads=threads))


def read_ahead(source: Source, workers: int) -> Iterator[Read]:
    """Yields the steps of a source in their order, which `workers` cannot change.

    Args:
        source: must be picklable if there are workers.
        workers: processes that read; 0 for a thread of this one. They are started
            anew (not forked, which threads of JAX do not survive), so a program that
            uses them begins with `if __name__ == "__main__":`.

    Yields:
        Images, labels and mask of a step, as of `Source`.

    Raises:
        InputError: a process died, or an image cannot be read.
    """
    # Only where images are streamed: what fits on the devices needs no grain.
    import grain
    from absl import flags

    if workers:
        source = source.shared_by(workers)
    steps: Any = grain.MapDataset.source(source).to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=1 if workers else AHEAD)
    )
    if workers:
        # Grain looks at flags of absl, which refuses in a program that has not parsed
        # its command line by absl.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        options = grain.MultiprocessingOptions(
            num_workers=workers, per_worker_buffer_size=AHEAD
        )
        steps = steps.mp_prefetch(options, worker_init_fn=_begin)
    iterator = iter(steps)
    try:
        yield from iterator
    except RuntimeError as error:
        if "Worker process was terminated" not in str(error):
            raise
        code = str(error).partition("exit code ")[2].partition(".")[0]
        raise InputError(
            f"A process that reads images ended unexpectedly, with exit code {code} "
            "(-9 is often a lack of memory). The same command goes on where it "
            "stopped; smaller batches need less memory."
        ) from error
    finally:
        iterator.close()


def _begin(worker: int, workers: int) -> None:
    """Prepares a process that reads."""
    del worker, workers
    # Should anything import JAX here, it must not take a device from the training.
    os.environ["JAX_PLATFORMS"] = "cpu"
    # Ctrl-C and a batch system's signals go to all processes of a job; the one that
    # trains decides when these end.
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Ends this process with the one that trains, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent, "this is a process that another one started"
    parent.join()
    os._exit(1)
