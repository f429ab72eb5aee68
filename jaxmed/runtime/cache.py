"""Where downloads, converted weights and compiled programs are kept."""

import os
from contextlib import suppress
from pathlib import Path

COMPILED_BYTES = 2 * 10**9
# How JAX ends the names of a program and of the time of its last use, and its lock.
PROGRAM, USED, LOCK = "-cache", "-atime", ".lockfile"


def cache_folder(explicit: Path | None = None) -> Path:
    """Returns the cache folder: `explicit`, else $JAXMED_CACHE, else ~/.cache/jaxmed.

    The folder need not exist yet.
    """
    if explicit is not None:
        return Path(explicit)
    return Path(os.environ.get("JAXMED_CACHE") or Path.home() / ".cache" / "jaxmed")


def keep_compiled_programs() -> None:
    """Lets JAX keep what it compiles in the cache folder's `compiled`, up to 2 GB.

    So that a command does not compile again what it compiled before; JAX knows each
    program by its text, the versions, the flags and the processor. To be called before
    JAX is imported. Its own variables go first: JAX_COMPILATION_CACHE_DIR names another
    folder, JAX_ENABLE_COMPILATION_CACHE=false turns it off.
    """
    folder = cache_folder() / "compiled"
    # A folder that may not be read or written is as good as none.
    with suppress(OSError):
        remove_unfinished_programs(folder)
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(COMPILED_BYTES))


def remove_unfinished_programs(folder: Path) -> None:
    """Removes what JAX was writing when its process was killed.

    It would neither read nor replace such a program, and warn at each later one.
    """
    if not _unfinished_programs(folder):
        return
    # Loaded where it is needed: nearly never.
    from filelock import FileLock

    with FileLock(folder / LOCK, timeout=10):
        for program in _unfinished_programs(folder):
            program.unlink()


def _unfinished_programs(folder: Path) -> list[Path]:
    # JAX writes the time after the program.
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    used = {name.removesuffix(USED) for name in names if name.endswith(USED)}
    programs = {name.removesuffix(PROGRAM) for name in names if name.endswith(PROGRAM)}
    return [folder / f"{program}{PROGRAM}" for program in programs - used]
