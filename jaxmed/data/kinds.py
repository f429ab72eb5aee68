"""Kinds of image files: how they are found, looked at and decoded."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from jaxmed.data.decode import (
    EXTENSIONS,
    FileHeader,
    decode,
    decode_square,
    read_header,
)
from jaxmed.data.read import Decoder
from jaxmed.data.resizing import Resizing


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of image files. What cannot be used raises `UnusableImage`.

    Attributes:
        scheme: of the source, such as "folder".
        endings: of the files' names, in lower case.
        header: reads what an open file says of its image, without the pixels.
        decoder: decodes a file, as `jaxmed.data.decode.decode` does it.
        square: decodes a file to a given shape, as `decode_square` there.
    """

    scheme: str
    endings: tuple[str, ...]
    header: Callable[[BinaryIO], FileHeader]
    decoder: Decoder
    square: Callable[[Path, int, Resizing, int], np.ndarray]


PICTURES = FileKind(
    scheme="folder",
    endings=EXTENSIONS,
    header=read_header,
    decoder=decode,
    square=decode_square,
)
