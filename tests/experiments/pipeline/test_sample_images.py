"""samples.png, of few classes and of a thousand."""

import numpy as np
from PIL import Image

from jaxmed.data import Dataset, Split
from jaxmed.experiments.pipeline.sample_images import ROWS, TILE, sample_grid
from jaxmed.report.page import embed_samples


def dataset(classes: int) -> Dataset:
    """Two gray images of every class, as bright as its number."""
    labels = np.arange(2 * classes, dtype=np.int32) % classes
    shades = (labels * 255 // max(classes - 1, 1)).astype(np.uint8)
    images = np.broadcast_to(shades[:, None, None, None], (len(labels), 8, 8, 1)).copy()
    splits = {
        name: Split(
            images=images, labels=labels, ids=tuple(f"{name}/{i}" for i in labels_of)
        )
        for name, labels_of in (
            (name, range(len(labels))) for name in ("train", "val", "test")
        )
    }
    return Dataset(
        name="many",
        source="npz:PATH",
        task="multiclass",
        class_names=tuple(f"class {i}" for i in range(classes)),
        image_size=8,
        **splits,
    )


def test_every_class_has_a_row_with_its_images():
    grid = sample_grid(dataset(3))
    rows = grid.reshape(3, -1, *grid.shape[1:])
    assert [int(row[TILE // 2, TILE // 2, 0]) for row in rows] == [0, 127, 255]


def test_of_very_many_classes_some_are_shown_the_first_and_the_last_among_them():
    grid = sample_grid(dataset(1000))
    rows = grid.reshape(ROWS, -1, *grid.shape[1:])
    shades = [int(row[TILE // 2, TILE // 2, 0]) for row in rows]
    assert (shades[0], shades[-1]) == (0, 255)
    assert shades == sorted(shades)


def test_a_picture_higher_than_a_jpeg_can_be_is_made_smaller(tmp_path):
    path = tmp_path / "samples.png"
    Image.new("RGB", (100, 70_000)).save(path)
    shot = embed_samples(path)
    assert shot.height == 65_500
    assert shot.width == 93
