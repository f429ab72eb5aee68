"""Where downloads, converted weights and compiled programs are kept."""

import os
from pathlib import Path

COMPILED_BYTES = 2 * 10**9


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
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(COMPILED_BYTES))
