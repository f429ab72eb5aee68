"""What image files are like before they are loaded: their sizes and modes.

Loading brings files to one size and to gray or RGB. What differed between classes
before, such as color in one of them only, a network may still learn from its traces.
"""

import warnings
from collections import Counter
from pathlib import Path

from jaxmed.data.audit.duplicates import name_labels
from jaxmed.data.dataset import SPLITS, Dataset
from jaxmed.data.images.file_formats import read_file_header
from jaxmed.runtime.progress import progress

Headers = dict[str, dict[str, dict[str, dict[str, int]]]]
"""By split, by class: {"sizes": {"1024 x 768": 12}, "modes": {"L": 12}}."""


def read_headers(data: Dataset, root: Path) -> Headers:
    """Counts sizes, width x height in pixels, and modes of the files of a data set.

    Modes are those of `FileHeader`: Pillow's L (gray), RGB, RGBA, P (palette), CMYK,
    I;16 and so on, and DICOM's with the bits stored.

    Args:
        data: its ids are paths below `root`.
        root: the folder.

    Returns:
        See `Headers`; the most frequent first.
    """
    splits = {name: getattr(data, name) for name in SPLITS}
    total = sum(map(len, splits.values()))
    headers: Headers = {}
    with (
        warnings.catch_warnings(),
        progress("Reading headers", total, unit="files") as advance,
    ):
        # About large images; the loader has decided about them.
        warnings.simplefilter("ignore")
        for split, images in splits.items():
            found: dict[str, tuple[Counter, Counter]] = {}
            labels = name_labels(data, images.labels)
            for name, label in zip(images.ids, labels, strict=True):
                sizes, modes = found.setdefault(label, (Counter(), Counter()))
                with open(root / name, "rb") as file:
                    header = read_file_header(file, root / name)
                sizes[f"{header.width} x {header.height}"] += 1
                modes[header.mode] += 1
                advance(1)
            headers[split] = {
                label: {
                    "sizes": dict(sizes.most_common()),
                    "modes": dict(modes.most_common()),
                }
                for label, (sizes, modes) in sorted(found.items())
            }
    return headers
