"""Order of classes, positive class and task, the same for every source."""

import csv

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.sources.registry import load_dataset
from jaxmed.errors import InputError

COUNTS = {"train": 6, "val": 3, "test": 3}


@pytest.fixture
def sources(tmp_path):
    """The same images as an npz, a folder and a table, by number of classes."""

    def make(names):
        rng, arrays, rows = np.random.default_rng(0), {}, []
        for split, count in COUNTS.items():
            images = rng.integers(0, 256, (count, 4, 4), np.uint8)
            labels = np.arange(count) % len(names)
            arrays |= {f"{split}_images": images, f"{split}_labels": labels}
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                path = tmp_path / "scans" / split / names[label] / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
                rows.append((path.relative_to(tmp_path), names[label], split))
        np.savez(tmp_path / "scans.npz", **arrays)
        with (tmp_path / "scans.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label", "split"), *rows])
        return [
            f"{kind}:{tmp_path}/scans{end}"
            for kind, end in (("folder", ""), ("table", ".csv"))
        ]

    return make


def test_the_order_of_classes_is_said_of_any_source(sources):
    for source in sources(["ill", "well"]):
        plain = load_dataset(source)
        said = load_dataset(f"{source}?classes=well,ill")
        positive = load_dataset(f"{source}?positive=ill")
        assert plain.class_names == ("ill", "well")
        assert said.class_names == positive.class_names == ("well", "ill")
        assert said.source == f"{source}?classes=well,ill"
        assert (said.train.ids, said.task) == (plain.train.ids, "binary")
        np.testing.assert_array_equal(said.train.labels, 1 - plain.train.labels)
        np.testing.assert_array_equal(positive.test.labels, 1 - plain.test.labels)


def test_grades_are_said_of_any_source(sources):
    for source in sources(["mild", "none", "severe"]):
        plain = load_dataset(source)
        data = load_dataset(f"{source}?classes=none,mild,severe&task=ordinal")
        assert (data.task, data.class_names) == ("ordinal", ("none", "mild", "severe"))
        for split in COUNTS:
            before = [plain.class_names[i] for i in getattr(plain, split).labels]
            after = [data.class_names[i] for i in getattr(data, split).labels]
            assert before == after
        with pytest.raises(
            InputError, match=r"0, 1, 2, \.\.\. without a gap\. Say all"
        ):
            load_dataset(f"{source}?task=ordinal")


def test_numbers_of_an_npz_get_names(sources, tmp_path):
    sources(["a", "b", "c"])
    source = f"npz:{tmp_path}/scans.npz"
    data = load_dataset(f"{source}?classes=none,mild,severe")
    assert data.class_names == ("none", "mild", "severe")
    np.testing.assert_array_equal(data.train.labels, load_dataset(source).train.labels)
    turned = load_dataset(f"{source}?classes=2,1,0")
    np.testing.assert_array_equal(turned.train.labels, 2 - data.train.labels)
    assert load_dataset(f"{source}?task=ordinal").task == "ordinal"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("classes=well", r"classes says well, and the classes are ill, well\. Say all"),
        ("classes=well,il", "classes says well, il, and"),
        ("classes=well,ill,well", "names 'well' twice in classes"),
        ("positive=il", "Unknown class of .* 'il'. Did you mean 'ill'"),
        ("positive=", "must say positive once"),
        ("task=binary", "Unknown task in .* 'binary'"),
        ("task=multilabel", "the labels are those of a binary task"),
    ],
)
def test_what_does_not_fit_is_explained(sources, query, sentence):
    folder, _ = sources(["ill", "well"])
    with pytest.raises(InputError, match=sentence):
        load_dataset(f"{folder}?{query}")
