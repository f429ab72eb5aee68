"""augmented.png: what training sees of some images."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmed.experiments.pipeline.sample_images import GAP, TILE, members_of, tile
from jaxmed.runtime.files import replacing

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.transforms.augmentation import Augmentation
    from jaxmed.data.transforms.preprocess import Preprocessing

ROWS = 4
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
    """Draws training images beside what augmentation makes of them, if it does.

    Args:
        folder: of the run; gets augmented.png.
        data: its train split is shown.
        augmentation, preprocessing: the run's.
    """
    from matplotlib.figure import Figure

    path = folder / "augmented.png"
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
    with replacing(path) as part:
        figure.savefig(part, dpi=120, bbox_inches="tight")


def augmented_grid(
    data: "Dataset", augmentation: "Augmentation", preprocessing: "Preprocessing"
) -> np.ndarray:
    """Puts images and their views side by side, the same ones every time.

    Returns:
        uint8 (rows, columns, 3): a row for each of `ROWS` images, of the classes in
        turn; the image itself and then `VIEWS` views of it.
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
    for row, (image, own) in enumerate(zip(plain, views, strict=True)):
        for column, shown in enumerate((image, *own)):
            top, left = row * side, column * side + (APART if column else 0)
            whole = shown.round().clip(0, 255).astype(np.uint8)
            grid[top : top + TILE, left : left + TILE] = tile(whole)
    return grid


def _some_of_each_class(data: "Dataset") -> np.ndarray:
    """Returns indices of training images: the first of each class, then the second."""
    chosen, classes = [], range(len(data.class_names))
    of_class = [members_of(data, number) for number in classes]
    for place in range(ROWS):
        chosen += [int(found[place]) for found in of_class if place < len(found)]
    return np.asarray(list(dict.fromkeys(chosen))[:ROWS])
