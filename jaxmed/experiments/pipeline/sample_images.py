"""samples.png: what the images of each class look like."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.runs.layout import AUGMENTED, SAMPLES
from jaxmed.runtime.files import atomic_write

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.augmentation import Augmentation
    from jaxmed.data.transforms.preprocess import Preprocessing

AUGMENTED_ROWS = 4
VIEWS = 6
# Pixels between an image and its views, beyond the usual gap.
APART = 12


def write_augmented(
    folder: Path,
    data: "Dataset",
    *,
    augmentation: "Augmentation",
    preprocessing: "Preprocessing",
) -> None:
    """Draw training images beside what augmentation makes of them, if it does.

    Args:
        folder: of the run; gets augmented.png.
        data: its train split is shown.
        augmentation, preprocessing: the run's.
    """
    from matplotlib.figure import Figure

    path = folder / AUGMENTED
    if not augmentation or path.exists():
        return
    grid = augmented_grid(data, augmentation, preprocessing)
    height, width = grid.shape[:2]
    figure = Figure(figsize=(width / 120, height / 120 + 0.3))
    axes = figure.subplots()
    axes.imshow(grid)
    middle = APART + (TILE + GAP) * (1 + VIEWS / 2)
    words = ["as it is", "as training sees it"]
    axes.set_xticks([TILE / 2, middle], words, fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    with atomic_write(path) as part:
        figure.savefig(part, dpi=120, bbox_inches="tight")


def augmented_grid(
    data: "Dataset", augmentation: "Augmentation", preprocessing: "Preprocessing"
) -> np.ndarray:
    """Put images and their views side by side, the same ones every time.

    Returns:
        uint8 (rows, columns, 3): a row for each of `AUGMENTED_ROWS` images, of the
        classes in turn; the image itself and then `VIEWS` views of it.
    """
    import jax
    import jax.numpy as jnp

    from jaxmed.data.transforms.augmentation import augment_stored

    images = data.train.images[_some_of_each_class(data)]
    views = jax.jit(
        lambda repeated, key: augment_stored(
            repeated, key, augmentation=augmentation, preprocessing=preprocessing
        )
    )(images.repeat(VIEWS, axis=0), jax.random.key(0))
    plain = np.asarray(preprocessing.resize(jnp.asarray(images)))
    views = np.asarray(views).reshape(len(images), VIEWS, *plain.shape[1:])
    side = TILE + GAP
    shape = (len(images) * side - GAP, (1 + VIEWS) * side - GAP + APART, 3)
    grid = np.full(shape, 255, np.uint8)
    for row, (image, image_views) in enumerate(zip(plain, views, strict=True)):
        for column, shown in enumerate((image, *image_views)):
            top, left = row * side, column * side + (APART if column else 0)
            pixels = shown.round().clip(0, 255).astype(np.uint8)
            grid[top : top + TILE, left : left + TILE] = tile(pixels)
    return grid


def _some_of_each_class(data: "Dataset") -> np.ndarray:
    """Return indices of training images: the first of each class, then the second."""
    chosen, classes = [], range(len(data.class_names))
    of_class = [members_of(data, number) for number in classes]
    for rank in range(AUGMENTED_ROWS):
        chosen += [int(members[rank]) for members in of_class if rank < len(members)]
    return np.asarray(list(dict.fromkeys(chosen))[:AUGMENTED_ROWS])


COLUMNS = 10
# Of more classes than these, so many are shown: a JPEG is at most 65,500 pixels high,
# and nobody looks at more.
ROWS = 60
TILE = 96
GAP = 4


def write_samples(folder: Path, data: "Dataset") -> None:
    """Draw some training images of the classes, unless that was done before.

    Args:
        folder: of the experiment; gets samples.png.
        data: its train split is shown.
    """
    from matplotlib.figure import Figure

    path = folder / SAMPLES
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
    with atomic_write(path) as part:
        figure.savefig(part, dpi=120, bbox_inches="tight")


def sample_grid(data: "Dataset") -> np.ndarray:
    """Put training images side by side, a row per class, the same ones every time.

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
    """Return the numbers of the classes that have a row."""
    count = len(data.class_names)
    spread = np.linspace(0, count - 1, min(count, ROWS))
    return spread.round().astype(int).tolist()


def members_of(data: "Dataset", number: int) -> np.ndarray:
    """Return the training images of a class, int (n,), in an order of no meaning."""
    labels = data.train.labels
    members = labels[:, number] == 1 if labels.ndim == 2 else labels == number
    return np.random.default_rng(number).permutation(np.flatnonzero(members))


def tile(image: np.ndarray) -> np.ndarray:
    """Make an image, uint8 (h, w, 1 or 3), a square of `TILE` pixels in RGB."""
    from PIL import Image

    picture = Image.fromarray(np.broadcast_to(image, (*image.shape[:2], 3)))
    return np.asarray(picture.resize((TILE, TILE), Image.Resampling.BILINEAR))


def _shorten(name: str, length: int = 28) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
