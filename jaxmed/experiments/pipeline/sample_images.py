"""samples.png: what the images of each class look like."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.runtime.files import replacing

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset

COLUMNS = 10
# Of more classes than these, so many are shown: a JPEG is at most 65,500 pixels high,
# and nobody looks at more.
ROWS = 60
TILE = 96
GAP = 4


def write_samples(folder: Path, data: "Dataset") -> None:
    """Draws some training images of the classes, unless that was done before.

    Args:
        folder: of the experiment; gets samples.png.
        data: its train split is shown.
    """
    from matplotlib.figure import Figure

    path = folder / "samples.png"
    if path.exists():
        return
    grid = sample_grid(data)
    height, width = grid.shape[:2]
    names = [_shorten(data.class_names[number]) for number in shown_classes(data)]
    figure = Figure(figsize=(width / 120 + 2, height / 120 + 0.2))
    axes = figure.subplots()
    axes.imshow(grid)
    axes.set_yticks((np.arange(len(names)) + 0.5) * (TILE + GAP), names)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, dpi=120, bbox_inches="tight")


def sample_grid(data: "Dataset") -> np.ndarray:
    """Puts training images side by side, a row per class, the same ones every time.

    Of more than `ROWS` classes, that many are shown, evenly spread over their order.

    Returns:
        uint8 (rows, columns, 3); white where a class has fewer than `COLUMNS` images.
    """
    side = TILE + GAP
    numbers = shown_classes(data)
    grid = np.full((len(numbers) * side, COLUMNS * side, 3), 255, np.uint8)
    for row, number in enumerate(numbers):
        chosen = members_of(data, number)[:COLUMNS]
        for column, index in enumerate(chosen):
            top, left = row * side, column * side
            shown = tile(data.train.images[index])
            grid[top : top + TILE, left : left + TILE] = shown
    return grid


def shown_classes(data: "Dataset") -> list[int]:
    """Returns the numbers of the classes that have a row."""
    count = len(data.class_names)
    spread = np.linspace(0, count - 1, min(count, ROWS))
    return spread.round().astype(int).tolist()


def members_of(data: "Dataset", number: int) -> np.ndarray:
    """Returns the training images of a class, int (n,), in an order of no meaning."""
    labels = data.train.labels
    members = labels[:, number] == 1 if labels.ndim == 2 else labels == number
    return np.random.default_rng(number).permutation(np.flatnonzero(members))


def tile(image: np.ndarray) -> np.ndarray:
    """Makes an image, uint8 (h, w, 1 or 3), a square of `TILE` pixels in RGB."""
    from PIL import Image

    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    return np.asarray(picture.resize((TILE, TILE), Image.Resampling.BILINEAR))


def _shorten(name: str, length: int = 28) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
