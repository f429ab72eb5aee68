"""`medmnist:NAME`: the 2D data sets of MedMNIST, downloaded once.

Yang et al., "MedMNIST v2", Scientific Data 2023. "medmnist:bloodmnist" are its images
of 28 pixels; "medmnist:bloodmnist_64", "_128" and "_224" the larger ones.
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from jaxmed.data.dataset import SourceImages
from jaxmed.data.sources.medmnist_catalog import CatalogEntry, Download, read_catalog
from jaxmed.data.sources.npz import LARGE_FILE, read_npz
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions
from jaxmed.errors import InputError, unknown
from jaxmed.runtime.cache import cache_folder
from jaxmed.runtime.files import atomic_write
from jaxmed.runtime.progress import progress

CHUNK = 2**20
# Seconds without a byte after which a connection counts as cut.
TIMEOUT = 30


def load_medmnist(
    rest: str,
    options: LoadOptions = LOAD_OPTIONS,
    *,
    catalog: Mapping[str, CatalogEntry] | None = None,
) -> SourceImages:
    """Loads a data set of MedMNIST; downloads its file the first time.

    Args:
        rest: the stem of MedMNIST's file, such as "bloodmnist" or "bloodmnist_224".
        options: the file is kept in the "medmnist" folder of the cache, and can be put
            there by hand; the images keep their size.
        catalog: the data sets there are; None asks the medmnist package.

    Raises:
        InputError: the name or size is unknown, the data set is of volumes, the
            medmnist package is missing, the download fails, or the file is damaged.
    """
    if catalog is None:
        catalog = read_catalog()
    if not catalog:
        raise InputError(
            "MedMNIST's names, addresses and checksums come from the medmnist package, "
            "which is not installed: pip install medmnist."
        )
    stem = rest.lower()
    entry = _find(stem, catalog)
    download = entry.files[stem]
    path = cache_folder(options.cache) / "medmnist" / f"{stem}.npz"
    if path.is_file():
        _verify(path, download)
    else:
        fetch(download, path)
    classes = (entry.task, entry.class_names)
    return read_npz(path, f"medmnist:{stem}", options, classes=classes)


def _find(stem: str, catalog: Mapping[str, CatalogEntry]) -> CatalogEntry:
    name, _, size = stem.partition("_")
    images = [entry.name for entry in catalog.values() if not entry.volumes]
    if name not in catalog:
        raise unknown("MedMNIST data set", stem, images)
    entry = catalog[name]
    if entry.volumes:
        raise InputError(
            f"{name} holds 3D volumes; jaxmed reads the 2D data sets of MedMNIST: "
            f"{', '.join(sorted(images))}."
        )
    if stem not in entry.files:
        raise InputError(
            f"{name} has no file for the size {size!r}. "
            f"Its files are {', '.join(entry.files)}."
        )
    return entry


def fetch(download: Download, path: Path) -> None:
    """Downloads a file, whole and with the right checksum or not at all.

    Args:
        download: where from, and the MD5 to expect.
        path: where to; its folder is made.

    Raises:
        InputError: no connection, an error of the server, a cut connection or other
            bytes than expected. It tells how to get the file by hand.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            for chunk in _receive(download.url, path.name):
                file.write(chunk)
                digest.update(chunk)
            if digest.hexdigest() != download.md5:
                raise _NotReceived(f"its MD5 is {digest.hexdigest()}")
    except (_NotReceived, OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise InputError(
            f"The download of {path.name} failed: {reason}. Get the file from "
            f"{download.url} (MD5 {download.md5}), put it at {path} and run again."
        ) from error


class _NotReceived(Exception):
    """The server answered, but not with the file."""


def _receive(url: str, name: str) -> Iterator[bytes]:
    try:
        response = urllib.request.urlopen(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        raise _NotReceived(f"the server says {error.code} {error.reason}") from error
    with closing(response):
        size = int(response.headers.get("Content-Length") or 0)
        received = 0
        total = -(-size // CHUNK)
        with progress(f"Downloading {name}", total, unit="MiB") as advance:
            while chunk := response.read(CHUNK):
                received += len(chunk)
                yield chunk
                advance(1)
    if received < size:
        raise _NotReceived(f"the connection was cut after {received} of {size} bytes")


def _verify(path: Path, download: Download) -> None:
    """Raises InputError if a file's MD5 is not the expected one."""
    size = path.stat().st_size
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        if size < LARGE_FILE:
            digest.update(file.read())
        else:
            total = -(-size // CHUNK)
            with progress(f"Checking {path.name}", total, unit="MiB") as advance:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
                    advance(1)
    if digest.hexdigest() != download.md5:
        raise InputError(
            f"{path} is damaged or not MedMNIST's file: expected MD5 {download.md5}, "
            f"got {digest.hexdigest()} ({size} bytes). Delete it and run again to "
            f"download it from {download.url}."
        )
