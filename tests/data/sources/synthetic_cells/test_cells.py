"""The drawn blood smears: fixed by their seed, cached, and not too easy."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.sources.synthetic_cells.cells import DRAWINGS, draw_arrays
from jaxmed.data.sources.synthetic_cells.classes import SOURCE, TARGET
from jaxmed.data.sources.synthetic_cells.slide import SIZE, Slide
from jaxmed.errors import InputError


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def cells(cache):
    return load_dataset("cells", cache=cache)


def few(rest: str, count: int):
    return replace(DRAWINGS[rest], counts=dict.fromkeys(DRAWINGS[rest].counts, count))


def test_target_task(cells):
    assert cells.task == "multiclass"
    assert cells.class_names == tuple(TARGET)
    assert len(cells.class_names) >= 6
    assert cells.image_size == 96
    for split, per_class in ((cells.train, 20), (cells.val, 20), (cells.test, 100)):
        assert split.images.shape[1:] == (96, 96, 3)
        assert set(np.bincount(split.labels)) == {per_class}


def test_source_task_has_other_classes_and_many_images():
    assert len(SOURCE) >= 8
    assert not SOURCE.keys() & TARGET.keys()
    assert DRAWINGS["source"].counts["train"] >= 500
    arrays = draw_arrays(few("source", 2))
    assert arrays["train_images"].shape == (2 * len(SOURCE), 96, 96, 3)


def test_no_picture_occurs_twice(cells):
    source = draw_arrays(few("source", 3))
    pictures = [*cells.train.images, *cells.val.images, *cells.test.images]
    pictures += [x for split in ("train", "val") for x in source[f"{split}_images"]]
    assert len({hashlib.sha256(x.tobytes()).digest() for x in pictures}) == (
        len(pictures)
    )


def test_a_picture_depends_on_its_own_number_only(cells):
    classes = len(TARGET)
    arrays = draw_arrays(few("", 2))
    np.testing.assert_array_equal(
        arrays["train_images"], cells.train.images[: 2 * classes]
    )
    np.testing.assert_array_equal(
        arrays["test_images"], cells.test.images[: 2 * classes]
    )
    other = draw_arrays(few("", 2), seed=1)
    assert (other["train_images"] != arrays["train_images"]).mean() > 0.5


def test_second_run_reads_identical_bytes_without_drawing(cells, cache, capsys):
    again = load_dataset("cells", cache=cache)
    assert "Drawing" not in capsys.readouterr().err
    assert again.fingerprint == cells.fingerprint


def test_damaged_cache_is_drawn_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(DRAWINGS, "", few("", 2))
    first = load_dataset("cells", cache=tmp_path)
    (path,) = (tmp_path / "cells").iterdir()
    content = path.read_bytes()
    for damaged in (content[:1000], content[:5000] + b"!!" + content[5002:]):
        path.write_bytes(damaged)
        capsys.readouterr()
        assert load_dataset("cells", cache=tmp_path).fingerprint == first.fingerprint
        assert "Drawing cells 42/42" in capsys.readouterr().err
    assert list(path.parent.iterdir()) == [path]


def test_two_classes_are_drawn_as_a_folder_of_files(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(DRAWINGS, "folder", few("folder", 3))
    data = load_dataset("cells:folder", image_size=96, cache=tmp_path)
    assert (data.source, data.name) == ("cells:folder", "cells-folder")
    assert (data.task, data.class_names) == ("binary", ("lymphocyte", "monocyte"))
    arrays = draw_arrays(few("folder", 3))
    for split in ("train", "val", "test"):
        order = np.argsort(arrays[f"{split}_labels"], kind="stable")
        part = getattr(data, split)
        np.testing.assert_array_equal(part.images, arrays[f"{split}_images"][order])
        assert list(part.labels) == [0, 0, 0, 1, 1, 1]
    assert data.val.ids[0] == "val/lymphocyte/000.png"
    (folder,) = (tmp_path / "cells").iterdir()
    capsys.readouterr()
    again = load_dataset(f"folder:{folder}", image_size=96)
    assert again.fingerprint == data.fingerprint
    load_dataset("cells:folder", cache=tmp_path)
    assert "Drawing" not in capsys.readouterr().err


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'cells:source'"):
        load_dataset("cells:sources")


def thumbnails(images):
    """Images of 32 pixels, as rows."""
    small = images.reshape(len(images), 32, SIZE // 32, 32, SIZE // 32, 3)
    return small.mean((2, 4)).reshape(len(images), -1)


def pixels(images):
    return images.reshape(len(images), -1)


def accuracy(view, images, labels, test, strength):
    """Test accuracy of logistic regression on scaled pixels.

    The ridge penalty keeps the weights in the span of the train images, so rotating
    all pixels into that span changes no prediction, and makes the fit fast.
    """
    scaler = StandardScaler().fit(view(images))
    train, other = (scaler.transform(view(x)) for x in (images, test.images))
    train, other = train.astype(np.float32), other.astype(np.float32)
    squares, left = np.linalg.eigh(train @ train.T)
    left, scales = left[:, squares > 1], np.sqrt(squares[squares > 1])
    model = LogisticRegression(C=strength, max_iter=100)
    # Products this small lose more to waiting BLAS threads than they gain.
    with threadpool_limits(1):
        model.fit(left * scales, labels)
    return model.score(other @ train.T @ (left / scales), test.labels)


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    ("view", "strength"),
    [(thumbnails, 1e-2), (pixels, 1e-4), (pixels, 1e-2)],
)
def test_pixels_alone_do_not_tell_the_classes_apart(cells, many, view, strength):
    found = accuracy(view, *many, cells.test, strength)
    assert found < 0.75
    # Yet there is something to learn.
    assert found > 2 / len(TARGET)


@pytest.fixture(scope="module")
def many():
    """1500 labeled images of the target task, and their labels."""
    per_class = -(-1500 // len(TARGET))
    drawing = replace(DRAWINGS[""], counts={"train": per_class, "val": 1, "test": 1})
    drawn = draw_arrays(drawing, seed=1)
    return drawn["train_images"], drawn["train_labels"]


def colors(images):
    """Means, deviations and dark quantiles of each channel."""
    rgb = images.reshape(len(images), -1, 3)[:, ::4] / 255
    dark = np.quantile(rgb, (0.01, 0.03, 0.05, 0.1, 0.2, 0.5), axis=1)
    return np.concatenate([rgb.mean(1), rgb.std(1), *dark], axis=1)


def test_classes_can_be_told_apart(cells):
    model = LogisticRegression(C=10, max_iter=2000)
    pipeline = make_pipeline(StandardScaler(), model)
    with threadpool_limits(1):
        pipeline.fit(colors(cells.test.images), cells.test.labels)
    assert pipeline.score(colors(cells.val.images), cells.val.labels) > 0.8


@pytest.mark.parametrize("name", [*TARGET, *SOURCE])
def test_every_class_draws_at_any_seed(name):
    draw = (TARGET | SOURCE)[name]
    for seed in range(25):
        slide = Slide(np.random.default_rng([7, seed]))
        draw(slide)
        assert np.isfinite(slide.density).all()
        picture = slide.photograph()
        assert picture.shape == (96, 96, 3)
        assert picture.dtype == np.uint8
        # Something is there besides the lamp's light.
        assert picture.std() > 5
