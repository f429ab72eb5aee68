"""Discovery of image files: by their endings or content, in a folder and below it."""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from jaxmed.data.dicom.decode_dicom import ENDINGS as DICOM_ENDINGS
from jaxmed.data.dicom.decode_dicom import HEAD, is_dicom
from jaxmed.data.images.picture import ENDINGS as PICTURE_ENDINGS
from jaxmed.data.images.picture import IMAGE_FORMATS
from jaxmed.errors import InputError

# Files with other endings, or none, are images if they begin as one.
ENDINGS = (*PICTURE_ENDINGS, *DICOM_ENDINGS)

# What operating systems and archives leave behind, which nobody put there.
RUBBISH = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir")
# Folders, and ends of names, of what was drawn on an image.
MASKS = "mask|masks|seg|segmentation|segmentations|groundtruth|ground_truth"
MASK_FOLDER = re.compile(f"(.*[ _-])?({MASKS})", re.IGNORECASE)
MASK_FILE = re.compile(rf"(.+?)[ _-]({MASKS})([ _-]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """What a source of files looks for.

    Attributes:
        scheme: of the source, such as "folder".
        endings: of names, in lower case, by which files are taken without a look.
        refuse: says why a file is none; "" if it is one.
    """

    scheme: str
    endings: tuple[str, ...]
    refuse: Callable[[Path], str]


def why_no_image(path: Path) -> str:
    """Returns why a file is not even looked at as an image; "" if it is.

    One that is named like an image is one, and if it is damaged, that is said of it.
    """
    name, ending = path.name, path.suffix.lower()
    if name.upper() == "DICOMDIR":
        return "a list of DICOM files, and no image"
    if ending in ENDINGS:
        return ""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            file.seek(0)
            if is_dicom(head, name) or _is_picture(file):
                return ""
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return "no image by its name or content"


def why_no_dicom(path: Path) -> str:
    """Returns why a file is not DICOM, as `why_no_image` of images; "" if it is."""
    if reason := why_no_image(path):
        return reason
    try:
        with path.open("rb") as file:
            known = is_dicom(file.read(HEAD), path.name)
    except OSError:
        # Whoever decodes it says why it cannot be read.
        known = path.name.lower().endswith(DICOM_ENDINGS)
    return "" if known else "no DICOM file"


@dataclass(kw_only=True)
class Search:
    """A search for images, and what it met.

    Attributes:
        refuse: says why a file is no image; "" if it is.
        bad: the reason, by name, why an image cannot be used.
        left_out: the reason, by name, why a file, or a folder of masks, is no image.
            Hidden files and `RUBBISH` are neither.
    """

    refuse: Callable[[Path], str] = why_no_image
    bad: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def below(
        self, folder: Path, base: str, above: tuple[Path, ...] = ()
    ) -> Iterator[str]:
        """Finds the images in a folder and in those below it.

        Args:
            folder: to look in.
            base: the folder's own name, below which its images are named.
            above: the folders that this one lies in.
        """
        real = folder.resolve()
        if any(other.is_relative_to(real) for other in above):
            self.bad[_escape(base)] = (
                "a link to a folder that it lies in, so without an end"
            )
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.bad[_escape(base)] = f"a folder that cannot be read: {error.strerror}"
            return
        entries = [entry for entry in entries if not is_rubbish(entry.name)]
        stems = {os.path.splitext(entry.name)[0].lower() for entry in entries}
        for entry in entries:
            name, path = f"{base}/{entry.name}", folder / entry.name
            if _is_folder(entry):
                if MASK_FOLDER.fullmatch(entry.name) and len(entries) > 1:
                    self.left_out[_escape(name)] = _describe_masks(path)
                else:
                    yield from self.below(path, name, (*above, real))
            # Bytes of a name that are no UTF-8 reach Python as lone surrogates.
            elif not name.isascii() and name != _escape(name):
                self.bad[_escape(name)] = "its name is not UTF-8"
            elif _is_mask(entry.name, stems):
                self.left_out[name] = "the mask of another image, by its name"
            elif reason := self.refuse(path):
                self.left_out[name] = reason
            else:
                yield name


def is_rubbish(name: str) -> bool:
    """Tells whether a file or folder is hidden, or one that nobody put there."""
    return name[0] == "." or name.lower() in RUBBISH


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, in sorted order.

    Raises:
        InputError: the folder cannot be read.
    """
    return [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]


def files_in(folder: Path) -> list[Path]:
    """Return the files in a folder that are not hidden, in sorted order.

    Raises:
        InputError: the folder cannot be read.
    """
    return [folder / entry.name for entry in _entries(folder) if entry.is_file()]


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        visible = [entry for entry in os.scandir(folder) if not is_rubbish(entry.name)]
        return sorted(visible, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"The folder {folder} cannot be read: {error.strerror}."
        ) from error


def _is_mask(name: str, stems: set[str]) -> bool:
    """Tells whether a file is named as the mask of another one beside it."""
    match = MASK_FILE.fullmatch(os.path.splitext(name)[0])
    return match is not None and match[1].lower() in stems


def _describe_masks(folder: Path) -> str:
    count = sum(len(files) for _, _, files in os.walk(folder))
    return (
        f"a folder of masks, by its name, beside the images: {count:,} files. If they "
        "are the images, rename it"
    )


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link that leads to itself.
        return False


def _escape(name: str) -> str:
    r"""Returns a name as text that can be written: "\udcff" for a broken byte."""
    return name.encode(errors="backslashreplace").decode()


def _is_picture(file: BinaryIO) -> bool:
    try:
        with Image.open(file, formats=IMAGE_FORMATS):
            return True
    except Exception:
        # Pillow raises whatever its parsers stumble over.
        return False


IMAGES = FileKind(scheme="folder", endings=ENDINGS, refuse=why_no_image)
DICOM = FileKind(scheme="dicom", endings=DICOM_ENDINGS, refuse=why_no_dicom)
