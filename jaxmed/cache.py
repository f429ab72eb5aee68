"""Where downloads and converted weights are kept."""

import os
from pathlib import Path


def cache_folder(explicit: Path | None = None) -> Path:
    """Returns the cache folder: `explicit`, else $JAXMED_CACHE, else ~/.cache/jaxmed.

    The folder need not exist yet.
    """
    if explicit is not None:
        return Path(explicit)
    return Path(os.environ.get("JAXMED_CACHE") or Path.home() / ".cache" / "jaxmed")
