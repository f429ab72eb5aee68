"""Feeds give the same steps, wherever the images come from."""

from functools import partial

import jax
import numpy as np
import pytest

from jaxmed.data.batching import shuffled
from jaxmed.data.images.lazy import LazyImages
from jaxmed.data.images.resizing import SQUASH
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.geometry import HorizontalFlip, QuarterTurns
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.runtime.memory import count_processors
from jaxmed.runtime.sharding import data_mesh, replicate, replicated_sharding, to_host
from jaxmed.strategies import Group, Optimizer, Phase
from jaxmed.training.epoch import train_epoch
from jaxmed.training.inputs.resident import (
    ResidentFeed,
    StreamingFeed,
    create_feed,
    steps_together,
)
from jaxmed.training.inputs.stream import Source
from jaxmed.training.state import Images, StepPlan, begin_phase

# 30 images in windows of two batches of four: four steps, the last of 4 and 2 images.
BATCH, ACCUMULATE = 4, 2
MESH = data_mesh(jax.devices()[:1])
SAME = {"batch_size": BATCH, "accumulate": ACCUMULATE, "mesh": MESH}


def resident(train, together=1):
    images = replicate(Images(train.images, train.labels), MESH)
    return ResidentFeed(images=images, together=together, **SAME)


def streaming(train, images=None, workers=0):
    images = train.images if images is None else images
    return StreamingFeed(images=images, labels=train.labels, workers=workers, **SAME)


def lazy(images, *, fails_at=None, dies_at=None):
    """Images that are there only when asked for.

    The class is in a function because pytest's modules cannot be imported by other
    processes; so it is pickled with its code.
    """

    class Lazy:
        def __init__(self):
            self.images = images
            self.dtype, self.shape = images.dtype, images.shape

        def __getitem__(self, rows):
            if fails_at in rows:
                from jaxmed.errors import InputError

                raise InputError(f"image {fails_at} cannot be read.")
            if dies_at in rows:
                import os

                os._exit(7)
            return self.images[rows]

    return Lazy()


@pytest.fixture(scope="module")
def begun(new_tiny):
    """A phase with everything that a step can do, and its state."""
    group = Group(
        name="all",
        patterns=("backbone", "head"),
        optimizer=Optimizer(name="adamw", learning_rate=0.01, weight_decay=0.1),
    )
    plan = StepPlan(
        phase=Phase(name="all", epochs=1, groups=(group,)),
        preprocessing=Preprocessing(image_size=12),
        task="multiclass",
        augmentation=Augmentation(ops=(HorizontalFlip(), QuarterTurns())),
        mixing=Mixing(mixup=0.4),
        accumulate=ACCUMULATE,
        ema=0.6,
        steps_per_epoch=4,
    )
    return plan, begin_phase(new_tiny(head="dropout"), plan)


def train(begun, feed, order, state=None, start=0, after=None):
    plan, (definition, fresh, frozen) = begun
    step = partial(
        feed.program(definition, plan),
        frozen=replicate(frozen, MESH),
        key=jax.device_put(jax.random.key(5), replicated_sharding(MESH)),
    )
    return train_epoch(
        step, replicate(state or fresh, MESH), feed, order,
        scale=np.float32(1), mesh=MESH, advance=lambda *_, **__: None,
        start=start, after=after,
    )  # fmt: skip


@pytest.fixture(scope="module")
def order(quarters):
    return shuffled(len(quarters.train), seed=1, epoch=1)


@pytest.fixture(scope="module")
def one_by_one(begun, quarters, order):
    state, trained = train(begun, resident(quarters.train), order)
    assert int(state.step) == 4
    assert float(state.totals["images"]) == 30
    return to_host(state), trained


def assert_same(state, expected, **tolerance):
    leaves = jax.tree.leaves_with_path(expected)
    assert len(leaves) > 30
    for (path, array), other in zip(leaves, jax.tree.leaves(state), strict=True):
        name = jax.tree_util.keystr(path)
        if tolerance:
            np.testing.assert_allclose(other, array, err_msg=name, **tolerance)
        else:
            np.testing.assert_array_equal(other, array, err_msg=name)


def test_steps_dispatched_together_are_the_steps(begun, quarters, order, one_by_one):
    """Three, and then one in the place of three."""
    dispatched = []
    state, trained = train(
        begun, resident(quarters.train, together=3), order,
        after=lambda state, done: dispatched.append((done, int(state.step))),
    )  # fmt: skip
    assert dispatched == [(3, 3), (4, 4)]
    # Another program, and roundings of its own, which Adam's first steps enlarge.
    assert_same(state, one_by_one[0], rtol=1e-3, atol=1e-5)
    assert trained == pytest.approx(one_by_one[1], rel=1e-5)


@pytest.mark.parametrize(
    ("feed", "count", "expected"),
    [
        ("auto", 30, ResidentFeed),
        ("auto", 10**12, StreamingFeed),
        ("stream", 30, StreamingFeed),
        ("resident", 30, ResidentFeed),
    ],
)
def test_images_that_fit_are_resident_and_others_stream(feed, count, expected):
    # As many as it takes, in the memory of one.
    images = np.broadcast_to(np.zeros((1, 12, 12, 3), np.uint8), (count, 12, 12, 3))
    labels = np.broadcast_to(np.int32(0), count)
    assert type(create_feed(feed, images, labels, **SAME)) is expected


def test_what_is_read_on_demand_can_become_resident(quarters):
    class Lazy:
        """What counts of `LazyImages`."""

        shape, dtype = (30, 12, 12, 3), np.dtype(np.uint8)
        nbytes = quarters.train.images.nbytes

        def __len__(self):
            return 30

        def __getitem__(self, rows):
            return quarters.train.images[rows]

    feed = create_feed("auto", Lazy(), quarters.train.labels, **SAME)
    assert isinstance(feed, ResidentFeed)
    np.testing.assert_array_equal(feed.images.images, quarters.train.images)


def test_on_a_cpu_steps_are_dispatched_one_by_one():
    assert steps_together(MESH, 32) == 1


@pytest.mark.parametrize("kind", ["array", "mapped", "process", "processes"])
def test_streamed_images_give_the_same_bits(
    begun, quarters, order, one_by_one, tmp_path, kind
):
    images = quarters.train.images
    if kind == "mapped":
        np.save(tmp_path / "images.npy", images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
    workers = {"process": 1, "processes": 2}.get(kind, 0)
    images = lazy(images) if workers else images
    state, trained = train(begun, streaming(quarters.train, images, workers), order)
    assert_same(state, one_by_one[0])
    assert trained == one_by_one[1]


@pytest.mark.parametrize("make", [resident, streaming])
def test_an_epoch_goes_on_from_its_middle(begun, quarters, order, one_by_one, make):
    held = {}

    def hold(state, done):
        held[done] = to_host(state)

    train(begun, make(quarters.train), order, after=hold)
    assert list(held) == [1, 2, 3, 4]
    for start in (1, 3):
        state, trained = train(
            begun, make(quarters.train), order, state=held[start], start=start
        )
        assert_same(state, one_by_one[0])
        assert trained == one_by_one[1]


def test_processes_share_the_processors(quarters, tmp_path):
    images = LazyImages(
        root=tmp_path,
        files=("a.png", "b.png"),
        image_size=12,
        resizing=SQUASH,
        channels=3,
        digests=np.zeros(2, np.uint64),
        scales=np.zeros(2, np.int8),
        source="folder:scans",
    )
    source = Source(images=images, labels=np.zeros(2, np.int32), windows=())
    processors = count_processors()
    assert source.shared_by(1).images.threads == processors
    assert source.shared_by(2 * processors).images.threads == 1
    array = Source(images=quarters.train.images, labels=source.labels, windows=())
    assert array.shared_by(2) is array


def test_an_image_that_cannot_be_read_in_a_process_is_a_sentence(
    begun, quarters, order
):
    images = lazy(quarters.train.images, fails_at=order[9])
    with pytest.raises(InputError, match="cannot be read"):
        train(begun, streaming(quarters.train, images, workers=1), order)


def test_a_process_that_dies_is_a_sentence(begun, quarters, order):
    images = lazy(quarters.train.images, dies_at=order[9])
    with pytest.raises(InputError, match="exit code 7"):
        train(begun, streaming(quarters.train, images, workers=1), order)
