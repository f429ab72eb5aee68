"""Which sets are decoded at once, and what a set in files can do."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.audit.audit import audit
from jaxmed.data.images import lazy as module
from jaxmed.data.images.lazy import LazyImages
from jaxmed.data.images.open import Reading
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError
from jaxmed.runtime.memory import host_memory


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Nine images of three patients in each class, of 24 x 20 pixels and gray."""
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    for label in range(2):
        (tmp_path / "scans" / f"class{label}").mkdir(parents=True)
        for i in range(9):
            pixels = np.random.default_rng(10 * label + i).integers(
                0, 256, (20, 24), np.uint8
            )
            name = f"p{label}{i // 3}-{i}.png"
            Image.fromarray(pixels).save(tmp_path / "scans" / f"class{label}" / name)
    return tmp_path / "scans"


SPLITTING = Splitting(split="patient", group_pattern=r"(p\d+)-", val_share=0.3)


def load(root, **options):
    options = {"image_size": 32, "splitting": SPLITTING} | options
    return load_dataset(f"folder:{root}", **options)


def is_lazy(data) -> bool:
    kinds = {
        isinstance(s.images, LazyImages) for s in (data.train, data.val, data.test)
    }
    assert len(kinds) == 1
    return kinds.pop()


@pytest.mark.parametrize(
    ("size", "bytes_needed"),
    [
        # Of one size and no larger than wanted they are kept as they are.
        (32, 18 * 20 * 24),
        (16, 18 * 16 * 16),
    ],
)
def test_what_does_not_fit_stays_in_its_files(root, size, bytes_needed):
    at_once = load(root, image_size=size, memory_budget=bytes_needed / 1e9)
    assert not is_lazy(at_once)
    held = sum(s.images.nbytes for s in (at_once.train, at_once.val, at_once.test))
    assert held == bytes_needed
    lazily = load(root, image_size=size, memory_budget=(bytes_needed - 1) / 1e9)
    assert is_lazy(lazily)
    assert lazily.train.images.shape == (len(at_once.train), size, size, 1)
    assert lazily.train.ids == at_once.train.ids
    assert lazily.image_size == size


def test_small_sets_are_read_at_once_and_keep_no_index(root, tmp_path):
    assert not is_lazy(load(root))
    assert not (tmp_path / "cache").exists()
    assert is_lazy(load(root, memory_budget=0))
    assert len(list((tmp_path / "cache" / "indexes").iterdir())) == 1


def test_lazy_images_need_a_size(root):
    with pytest.raises(InputError, match="Give image_size, their side"):
        load(root, image_size=None, memory_budget=0)


def test_a_budget_and_a_word_out_of_their_range_are_explained():
    for memory in (-1, float("nan")):
        with pytest.raises(InputError, match="at least 0 gigabytes"):
            Reading(memory=memory)
    with pytest.raises(InputError, match="Did you mean 'skip'"):
        Reading(on_error="skp")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < Reading().budget == host_memory() / 4 <= total / 4


def test_a_lazy_set_is_split_and_reduced_without_decoding(root):
    at_once, lazily = load(root), load(root, memory_budget=0)
    for path in root.rglob("*.png"):
        # Whatever is decoded from here on fails.
        path.write_bytes(b"")
    for one, other in ((at_once.train, lazily.train), (at_once.val, lazily.val)):
        assert (one.ids, one.groups) == (other.ids, other.groups)
        assert other.images.files == other.ids
    rows = np.array([2, 0])
    part = replace(lazily, train=lazily.train.take(rows)).train
    assert part.images.files == part.ids == tuple(lazily.train.ids[i] for i in rows)
    with pytest.raises(InputError, match="the file is empty"):
        lazily.train.images[0]


def test_the_fingerprint_is_of_names_and_content_and_not_of_the_place(root):
    first = load(root, memory_budget=0)
    assert first.fingerprint.startswith("files-")
    assert len(first.fingerprint) == 6 + 64
    assert first.fingerprint != load(root).fingerprint
    moved = root.rename(root.parent / "moved")
    for path in moved.rglob("*.png"):
        os.utime(path, (1, 1))
    assert load(moved, memory_budget=0).fingerprint == first.fingerprint
    path = moved / "class0" / "p00-0.png"
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(path)
    changed = load(moved, memory_budget=0)
    assert changed.fingerprint != first.fingerprint
    path.rename(path.with_name("p00-00.png"))
    assert load(moved, memory_budget=0).fingerprint != changed.fingerprint
    other = load(moved, memory_budget=0, image_size=16)
    assert other.fingerprint != load(moved, memory_budget=0).fingerprint


def test_the_sheet_of_a_lazy_set_is_that_of_its_arrays(root):
    # At the size of the files, so that nothing is enlarged.
    for path in root.rglob("*.png"):
        Image.open(path).resize((32, 32)).save(path)
    at_once, lazily = load(root), load(root, memory_budget=0)
    assert is_lazy(lazily)
    audits = audit(at_once), audit(lazily)
    one, other = (found.table() for found in audits)
    assert one.pop("fingerprint") != other.pop("fingerprint")
    assert one == other
    for name, mean in audits[0].means.items():
        np.testing.assert_array_equal(mean, audits[1].means[name])


def test_the_sheet_of_a_lazy_set_decodes_every_image_once(root, monkeypatch):
    data, decoded = load(root, memory_budget=0), []
    square = module.decode_square

    def spy(path, *options):
        decoded.append(path)
        return square(path, *options)

    monkeypatch.setattr(module, "decode_square", spy)
    audit(data)
    assert sorted(decoded) == sorted(root.rglob("*.png"))
