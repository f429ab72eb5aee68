"""Several processes that train together, each on its own devices, by jax.distributed.

All run the same program and enter every compiled step together. What may differ between
them (clocks, signals, free memory, the contents of a disk) is decided by process 0, or
agreed on, before they act on it. A single process is process 0, and none of this costs
it anything.
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

# Seconds until all processes must have joined.
JOIN_TIMEOUT = 300
# Seconds that a finished process waits for the others to finish.
SHUTDOWN_TIMEOUT = 60
# Seconds that process 0 outlives a failure: when it ends, JAX ends the others.
EXIT_DELAY = 3
# Seconds that the others wait while process 0 writes a run's files.
BROADCAST_TIMEOUT = 86_400


def is_multiprocess() -> bool:
    """Return whether the program runs as several processes; imports no JAX."""
    return "jax" in sys.modules and _jax().distributed.is_initialized()


def process_count() -> int:
    """Return the number of processes."""
    return _jax().process_count() if is_multiprocess() else 1


def process_index() -> int:
    """Return the number of this process, counted from 0."""
    return _jax().process_index() if is_multiprocess() else 0


def is_process_zero() -> bool:
    """Return whether this is the process that writes files and shows progress."""
    return process_index() == 0


def initialize(
    address: str | None = None, processes: int | None = None, process: int | None = None
) -> None:
    """Join the other processes; to be called before JAX has looked for devices.

    Without arguments the processes come from the environment: SLURM, a TPU slice, Open
    MPI or Kubernetes. Afterwards only process 0 prints to standard output.

    Args:
        address: of process 0, "HOST:PORT".
        processes: how many there are.
        process: the number of this one, from 0.

    Raises:
        InputError: an argument is out of range, the environment names no processes, or
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
            initialization_timeout=JOIN_TIMEOUT,
            shutdown_timeout_seconds=SHUTDOWN_TIMEOUT,
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
    if not is_process_zero():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def exit_now(code: int) -> NoReturn:
    """End this process at once, without waiting for others to finish.

    They end too: at the next collective operation, or when process 0 is gone, or when
    JAX has heard nothing from this one for 100 seconds.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if is_multiprocess() and is_process_zero():
        time.sleep(EXIT_DELAY)
    os._exit(code)


def run_on_process_zero(work: Callable[[], T]) -> T:
    """Run a function on process 0 and return its result on every process.

    The other processes wait.

    Args:
        work: returns a value that JSON can hold.

    Raises:
        InputError: process 0 raised it; every process raises it.
    """
    if not is_multiprocess():
        return work()
    answer: dict[str, Any] = {}
    if is_process_zero():
        try:
            answer = {"value": work()}
        except InputError as error:
            answer = {"error": str(error)}
    answer = _broadcast(answer)
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["value"]


def all_gather(numbers: "Sequence[int] | np.ndarray") -> "np.ndarray":
    """Return the numbers of every process, int32 (processes, numbers)."""
    import numpy as np

    local = np.asarray(numbers, np.int32)
    if not is_multiprocess():
        return local[None]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(local)


def all_agree(condition: bool) -> bool:
    """Return whether a condition holds on every process."""
    return bool(all_gather([condition]).all())


@contextmanager
def raise_on_all() -> Iterator[None]:
    """Raise `InputError` on every process if any process raises it inside this block.

    Raises:
        InputError: this process's own, or one that names the process which failed.
    """
    try:
        yield
    except InputError:
        all_gather([1])
        raise
    failed = all_gather([0])[:, 0]
    if failed.any():
        raise InputError(f"Process {failed.argmax()} cannot go on, and says why.")


def check_same(text: str, sentence: str) -> None:
    """Check that a text is the same on every process.

    Raises:
        InputError: it is not; the message is `sentence`.
    """
    import numpy as np

    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.int32)
    digests = all_gather(digest)
    if (digests != digests[0]).any():
        raise InputError(sentence)


def _broadcast(value: Any) -> Any:
    """Return process 0's value on every process, as JSON holds it."""
    import numpy as np
    from jax.experimental import multihost_utils
    from orbax.checkpoint.multihost import get_barrier_sync_fn

    # Process 0 may take long, which not every backend's collectives would wait for.
    get_barrier_sync_fn()(key="jaxmed", timeout_ms=BROADCAST_TIMEOUT * 1000)
    text = json.dumps(value).encode() if is_process_zero() else b""
    # A broadcast takes arrays of one shape, so the length goes first.
    size = int(all_gather([len(text)])[0, 0])
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
            if time.monotonic() - began > JOIN_TIMEOUT:
                raise InputError(
                    f"The first process does not answer at {host}:{port} since "
                    f"{JOIN_TIMEOUT} s: {error}. Start it there, with --process 0."
                ) from error
            time.sleep(0.2)


def _jax() -> Any:
    return sys.modules["jax"]
