"""Several processes that train together, each on its own devices, by jax.distributed.

All run the same program and enter every compiled step together. What may differ between
them (clocks, signals, free memory, what a disk holds) is decided by the first one, or
agreed on, before they act on it. Where there is one process, it is the first, and none
of this costs anything.
"""

import hashlib
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from jaxmed.errors import InputError

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

# Seconds until all processes must have come.
START = 300
# Seconds that a process which has finished waits for the others to do so.
END = 60
# Seconds that the first stays behind where all fail: the others end with it.
BEHIND = 3
# Seconds that the others wait while the first writes a run's files.
PATIENCE = 86_400


def count() -> int:
    """Returns how many processes there are."""
    return _jax().process_count() if are_several() else 1


def number() -> int:
    """Returns which of the processes this one is, counted from 0."""
    return _jax().process_index() if are_several() else 0


def is_first() -> bool:
    """Tells whether this is the process that writes files and shows progress."""
    return number() == 0


def start(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Joins the other processes; to be called before JAX has looked for devices.

    Without arguments the environment says who they are: SLURM's, a TPU slice's, Open
    MPI's or Kubernetes'. What all but the first print is then left out.

    Args:
        address: of the first process, "HOST:PORT".
        processes: how many there are.
        process: which of them this is, from 0.

    Raises:
        InputError: an argument is out of range, the environment says nothing, or
            nobody answers at the address.
    """
    if address is not None:
        assert processes is not None, "it belongs to the address"
        assert process is not None, "so does it"
        _check(address, processes, process)
    import jax

    # It would take SIGTERM away from us; see `jaxmed.runtime.interrupts`.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            address,
            processes,
            process,
            cluster_detection_method=None if address is None else "deactivate",
            initialization_timeout=START,
            shutdown_timeout_seconds=END,
        )
    except (ValueError, RuntimeError) as error:
        if address is None:
            raise InputError(
                "--distributed found no other processes in the environment (SLURM, a "
                f"TPU slice, Open MPI, Kubernetes): {error} Start it there, or say "
                "who they are by --coordinator, --processes and --process."
            ) from error
        raise InputError(
            f"The processes at {address} cannot be joined: {error}"
        ) from error
    if not is_first():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def leave(code: int) -> NoReturn:
    """Ends this process at once, without waiting for others to finish.

    They end too: at the next exchange, or when the first is gone, or when JAX has heard
    nothing from this one for 100 seconds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if are_several() and is_first():
        time.sleep(BEHIND)
    os._exit(code)


def by_first(work: Callable[[], T]) -> T:
    """Lets the first process do something; the others wait, and get what it returns.

    Args:
        work: returns what JSON can hold.

    Raises:
        InputError: the first process raised it; all do.
    """
    if not are_several():
        return work()
    answer: dict[str, Any] = {}
    if is_first():
        try:
            answer = {"value": work()}
        except InputError as error:
            answer = {"error": str(error)}
    answer = _from_first(answer)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["value"]


def gather(numbers: "Sequence[int] | np.ndarray") -> "np.ndarray":
    """Returns what every process gave, int32 (processes, numbers)."""
    import numpy as np

    own = np.asarray(numbers, np.int32)
    if not are_several():
        return own[None]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(own)


def all_say(yes: bool) -> bool:
    """Tells whether every process says yes."""
    return bool(gather([yes]).all())


@contextmanager
def together() -> Iterator[None]:
    """What every process does alone in this block fails in all if it does in one.

    Raises:
        InputError: this process's own, or another one had one.
    """
    try:
        yield
    except InputError:
        gather([1])
        raise
    failed = gather([0])[:, 0]
    if failed.any():
        raise InputError(f"Process {failed.argmax()} cannot go on, and says why.")


def check_same(what: str, sentence: str) -> None:
    """Checks that a text is the same on every process.

    Raises:
        InputError: it is not; the sentence says so.
    """
    import numpy as np

    digest = np.frombuffer(hashlib.sha256(what.encode()).digest(), np.int32)
    found = gather(digest)
    if (found != found[0]).any():
        raise InputError(sentence)


def _from_first(value: Any) -> Any:
    import numpy as np
    from jax.experimental import multihost_utils
    from orbax.checkpoint.multihost import get_barrier_sync_fn

    # The first may take long, which not every kind of broadcast below would wait for.
    get_barrier_sync_fn()(key="jaxmed", timeout_ms=PATIENCE * 1000)
    text = json.dumps(value).encode() if is_first() else b""
    # All give an array of the same shape.
    size = int(gather([len(text)])[0, 0])
    buffer = np.zeros(size, np.uint8)
    buffer[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(buffer).tobytes())


def _check(address: str, processes: int, process: int) -> None:
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdigit():
        raise InputError(f"--coordinator must be HOST:PORT, got {address!r}.")
    if not 0 <= process < processes:
        raise InputError(
            f"--process counts from 0 to --processes minus 1; got {process} of "
            f"{processes}."
        )
    if process:
        # JAX ends the program with a stack trace if nobody answers.
        _wait_for(host, int(port))


def _wait_for(host: str, port: int) -> None:
    began = time.monotonic()
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() - began > START:
                raise InputError(
                    f"The first process does not answer at {host}:{port} since "
                    f"{START} s: {error}. Start it there, with --process 0."
                ) from error
            time.sleep(0.2)


def are_several() -> bool:
    """Tells whether this program runs as several processes, without importing JAX."""
    return "jax" in sys.modules and _jax().distributed.is_initialized()


def _jax() -> Any:
    return sys.modules["jax"]
