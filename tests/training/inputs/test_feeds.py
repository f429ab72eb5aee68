"""Feeds give the same steps, wherever the images come from."""

import threading
from contextlib import closing
from functools import partial

import jax
import numpy as np
import pytest

from jaxmed.data.batching import shuffled
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.geometry import HorizontalFlip, QuarterTurns
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.runtime.sharding import data_mesh, replicate, replicated_sharding, to_host
from jaxmed.strategies import Group, Optimizer, Phase
from jaxmed.training.inputs.feeds import (
    STEPS_AHEAD,
    ResidentFeed,
    StreamingFeed,
    choose_steps_per_dispatch,
    create_feed,
)
from jaxmed.training.state import Images, StepPlan, begin_phase
from jaxmed.training.sync import running_averages

# 30 images in windows of two batches of four: four steps, the last of 4 and 2 images.
BATCH, ACCUMULATE = 4, 2
MESH = data_mesh(jax.devices()[:1])
SAME = {"batch_size": BATCH, "accumulate": ACCUMULATE, "mesh": MESH}


def resident(train, steps=1):
    images = replicate(Images(train.images, train.labels), MESH)
    return ResidentFeed(images=images, steps_per_dispatch=steps, **SAME)


def streaming(train, images=None):
    images = train.images if images is None else images
    return StreamingFeed(images=images, labels=train.labels, **SAME)


class Lazy:
    """What counts of `LazyImages`: images that are there only when asked for."""

    def __init__(self, images, fails_at=None):
        self.images, self.fails_at, self.reads = images, fails_at, 0
        self.dtype, self.shape, self.nbytes = images.dtype, images.shape, images.nbytes

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        self.reads += 1
        if self.fails_at is not None and self.fails_at in rows:
            raise InputError(f"image {self.fails_at} cannot be read.")
        return self.images[rows]


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
        feed.compile_step(definition, plan),
        frozen=replicate(frozen, MESH),
        key=jax.device_put(jax.random.key(5), replicated_sharding(MESH)),
        scale=np.float32(1),
    )
    state, done = replicate(state or fresh, MESH), start
    with closing(feed.dispatches(order, start)) as dispatches:
        for dispatch in dispatches:
            state = step(state, **dispatch.arguments)
            done += dispatch.steps
            if after:
                after(state, done)
    return state, running_averages(state)


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
        begun, resident(quarters.train, steps=3), order,
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


def test_lazy_images_can_become_resident(quarters):
    feed = create_feed(
        "auto", Lazy(quarters.train.images), quarters.train.labels, **SAME
    )
    assert isinstance(feed, ResidentFeed)
    np.testing.assert_array_equal(feed.images.images, quarters.train.images)


def test_on_a_cpu_steps_are_dispatched_one_by_one():
    assert choose_steps_per_dispatch(MESH, 32) == 1


@pytest.mark.parametrize("kind", ["array", "mapped", "lazy"])
def test_streamed_images_give_the_same_bits(
    begun, quarters, order, one_by_one, tmp_path, kind
):
    images = quarters.train.images
    if kind == "mapped":
        np.save(tmp_path / "images.npy", images)
        images = np.load(tmp_path / "images.npy", mmap_mode="r")
    images = Lazy(images) if kind == "lazy" else images
    state, trained = train(begun, streaming(quarters.train, images), order)
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


def readers():
    return {t.name for t in threading.enumerate() if t.name.startswith("reader")}


def test_threads_live_from_epoch_to_epoch(quarters, order):
    before = readers()
    feed = streaming(quarters.train)
    assert len(list(feed.dispatches(order))) == 4
    first = readers() - before
    assert 0 < len(first) <= STEPS_AHEAD
    assert len(list(feed.dispatches(order))) == 4
    assert readers() - before <= first | {f"reader_{n}" for n in range(STEPS_AHEAD)}


def test_an_epoch_that_is_left_early_reads_no_further(quarters, order):
    images = Lazy(quarters.train.images)
    feed = streaming(quarters.train, images)
    with closing(feed.dispatches(order)) as dispatches:
        next(dispatches)
    list(feed.dispatches(order))
    # Of the first epoch at most the step, the one behind it, and those ahead.
    assert 4 < images.reads <= 4 + 2 + STEPS_AHEAD


def test_an_image_that_cannot_be_read_is_a_sentence(begun, quarters, order):
    images = Lazy(quarters.train.images, fails_at=order[9])
    with pytest.raises(InputError, match="cannot be read"):
        train(begun, streaming(quarters.train, images), order)
