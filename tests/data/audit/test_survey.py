"""One pass over the images, in parts, against NumPy on all of them."""

import numpy as np
import pytest

from jaxmed.data.audit import duplicates
from jaxmed.data.audit.audit import survey
from jaxmed.data.audit.duplicates import take_fingerprints
from jaxmed.data.dataset import Dataset, Split, number_ids


@pytest.fixture
def data() -> Dataset:
    rng, splits = np.random.default_rng(0), {}
    for name, count in (("train", 25), ("val", 10), ("test", 4)):
        images = rng.integers(0, 256, (count, 8, 6, 3)).astype(np.uint8)
        images[: count // 2] = images[: count // 2, ..., :1]
        labels = np.arange(count, dtype=np.int32) % 3
        splits[name] = Split(images=images, labels=labels, ids=number_ids(name, count))
    return Dataset(
        name="made", source="npz:made", task="multiclass", class_names=("a", "b", "c"),
        image_size=8, **splits,
    )  # fmt: skip


def test_parts_do_not_change_what_is_seen(data, monkeypatch, capsys):
    monkeypatch.setattr(duplicates, "MOST_VALUES", 7 * 8 * 6 * 3)
    seen = survey(data)
    splits = (data.train, data.val, data.test)
    every = take_fingerprints(np.concatenate([split.images for split in splits]))
    for name in ("digests", "hashes", "thumbnails", "deviations"):
        np.testing.assert_array_equal(getattr(seen.prints, name), getattr(every, name))
    assert seen.gray == {"train": 12 / 25, "val": 5 / 10, "test": 2 / 4}
    for label, name in enumerate(data.class_names):
        mean = data.train.images[data.train.labels == label].astype(float).mean(axis=0)
        assert np.abs(seen.means[name] - mean).max() <= 0.5 + 1e-9
    assert "39/39" in capsys.readouterr().err


def test_a_class_without_training_images_has_no_mean(data):
    data.train.labels[:] = data.train.labels % 2
    assert list(survey(data).means) == ["a", "b"]
