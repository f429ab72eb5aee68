"""Sizes and modes of files as Pillow wrote them."""

from pathlib import Path

import pytest
from PIL import Image

from jaxmed.data import load_dataset
from jaxmed.data.audit.audit import read_headers


@pytest.fixture
def folder(tmp_path) -> Path:
    for split in ("train", "val", "test"):
        for label, mode in (("a", "L"), ("b", "RGB")):
            for index, size in enumerate([(30, 20), (20, 20), (20, 20)]):
                path = tmp_path / split / label / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new(mode, size).save(path)
    Image.new("P", (8, 8)).save(tmp_path / "val" / "b" / "0.png")
    return tmp_path


def test_sizes_and_modes_are_counted_by_split_and_class(folder):
    data = load_dataset(f"folder:{folder}", image_size=16)
    found = read_headers(data, folder)
    sizes = {"20 x 20": 2, "30 x 20": 1}
    assert found["train"] == {
        "a": {"sizes": sizes, "modes": {"L": 3}},
        "b": {"sizes": sizes, "modes": {"RGB": 3}},
    }
    assert found["val"]["b"] == {
        "sizes": {"20 x 20": 2, "8 x 8": 1},
        "modes": {"RGB": 2, "P": 1},
    }
    # The most frequent first.
    assert list(found["train"]["a"]["sizes"]) == ["20 x 20", "30 x 20"]
