"""Fetching a file whose name carries the start of its hash."""

import http.client
import re
import urllib.error
import urllib.request
from pathlib import Path

from jaxmed.errors import InputError
from jaxmed.progress import progress
from jaxmed_convert.checkpoints import hash_file
from jaxmed_convert.replacing import replacing

TIMEOUT = 30.0
CHUNK = 1_000_000


def download(url: str, folder: Path) -> Path:
    """Returns the file at `url`, from `folder` if it is there already.

    torchvision's file names end in the first digits of the file's SHA-256, as in
    "resnet18-f37072fd.pth"; they are compared, also for a file that was put into the
    folder by hand. A download that fails leaves nothing behind.

    Args:
        url: ends in the file's name.
        folder: made if needed.

    Raises:
        InputError: no network, no such file, a cut line, or other bytes than the name
            promises. The message says where to get the file and where to put it.
    """
    name = url.rpartition("/")[2]
    path = folder / name
    if path.exists():
        _check_hash(path, name, f"Delete {path} and fetch it again from {url}.")
        return path
    advice = f"Fetch {name} from {url} yourself and put it at {path}."
    with replacing(path) as temporary:
        try:
            _fetch(url, temporary, name)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answered {error.code} {error.reason}"
            raise InputError(f"Cannot download {name}: {reason}. {advice}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"Cannot download {name}: {reason}. {advice}") from error
        _check_hash(temporary, name, advice)
    return path


def _fetch(url: str, path: Path, name: str) -> None:
    with (
        urllib.request.urlopen(url, timeout=TIMEOUT) as response,
        path.open("wb") as file,
    ):
        size = int(response.headers.get("Content-Length") or 0)
        total = -(-size // CHUNK)
        with progress(f"Downloading {name}", total, unit="MB") as advance:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                advance(1)
        if size and file.tell() != size:
            raise OSError(f"the line was cut after {file.tell():,} of {size:,} bytes")


def _check_hash(path: Path, name: str, advice: str) -> None:
    promised = re.search(r"-([0-9a-f]{8,64})\.\w+$", name)
    if promised is None:
        raise InputError(
            f"The file name {name} does not end in the start of its SHA-256, as in "
            "resnet18-f37072fd.pth, so what it holds cannot be checked."
        )
    found = hash_file(path)
    if not found.startswith(promised[1]):
        raise InputError(
            f"The bytes of {name} are not the expected ones: its SHA-256 starts with "
            f"{found[: len(promised[1])]} instead of {promised[1]}. {advice}"
        )
