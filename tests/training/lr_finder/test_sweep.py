"""Range tests on small drawn images, against optax's own schedules."""

from dataclasses import replace

import jax
import numpy as np
import optax
import pytest
from fixtures.tiny_network import tiny

from jaxmed.data.batching import drawn_balanced, shuffled
from jaxmed.data.dataset import MISSING, Dataset, Split
from jaxmed.errors import InputError
from jaxmed.inference.forward import predict_split
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.parameters import load, split
from jaxmed.runtime.sharding import data_mesh, replicate
from jaxmed.strategies import Group, Optimizer, Phase, Schedule, Strategy
from jaxmed.training.lr_finder.sweep import (
    ALL,
    NO_FALL,
    RangeTest,
    find_learning_rates,
)
from jaxmed.training.state import Images, StepPlan, begin_phase, zero_totals
from jaxmed.training.step import compiled_train_step

SIZE, BATCH, STEPS = 16, 8, 20


def make_data():
    """Images whose class is whether their upper half is bright, in noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(28, dtype=np.int32) % 2
    images = rng.integers(0, 20, (28, 16, 16, 1))
    images[labels == 1, :8] += 200

    def part(name):
        ids = tuple(f"{name}/{i}" for i in range(28))
        return Split(images=images.astype(np.uint8), labels=labels, ids=ids)

    return Dataset(
        name="halves",
        source="test",
        task="binary",
        class_names=("below", "above"),
        train=part("train"),
        val=part("val"),
        test=part("test"),
        image_size=SIZE,
    )


def new_model():
    model = tiny(2, head="dropout")
    # Chance enough to see that its keys are those of training.
    model.head.dropout.rate = 0.02
    return model


def group(name, *patterns, rate, **settings):
    optimizer = Optimizer(learning_rate=rate, **settings)
    return Group(name=name, patterns=patterns, optimizer=optimizer)


def head_only(rate=1e-3, **settings):
    phase = Phase(name="head", epochs=1, groups=(group("head", "head", rate=rate),))
    return Strategy(name="head", phases=(replace(phase, **settings),))


def two_groups():
    last = group("last", "backbone.conv2", "backbone.bn2", rate=1e-4)
    groups = last, group("head", "head", rate=1e-3)
    schedule = Schedule(name="cosine", warmup_epochs=1)
    phase = Phase(name="both", epochs=2, groups=groups, schedule=schedule)
    return Strategy(name="two", phases=(phase,))


def find(model, strategy, **options):
    options = {"batch_size": BATCH, "seed": 3, "steps": STEPS} | options
    return find_learning_rates(model, make_data(), strategy, **options)


def weights_of(model):
    parts = split(model)
    return {p: np.array(a) for p, a in (parts.params | parts.stats).items()}


@pytest.fixture(scope="module")
def tested():
    """A model before and after, and its tests."""
    model = new_model()
    before = split(model).definition, weights_of(model)
    return before, model, find(model, two_groups())


def scheduled(shares, rates):
    """The phase of `two_groups` with optax's schedules in place of factors."""

    def adam(share):
        return lambda _: optax.adam(lambda step: share * jax.numpy.asarray(rates)[step])

    groups = tuple(
        replace(one, optimizer=replace(one.optimizer, make=adam(shares[one.name])))
        for one in two_groups().phases[0].groups
    )
    return Phase(name="both", epochs=1, groups=groups)


@pytest.mark.parametrize(
    ("number", "shares"),
    [
        (0, {"last": 0.1, "head": 1.0}),
        (1, {"last": 1.0, "head": 0.0}),
    ],
    ids=["all", "last"],
)
def test_losses_are_those_of_a_training_with_rising_rates(tested, number, shares):
    test, model, data = tested[2][number], new_model(), make_data()
    plan = StepPlan(
        phase=scheduled(shares, np.geomspace(1e-7, 1, STEPS)),
        preprocessing=preprocessing_of(model, SIZE),
        task=data.task,
    )
    mesh = data_mesh()
    definition, state, frozen = begin_phase(model, plan)
    state, frozen = replicate((state, frozen), mesh)
    step = compiled_train_step(definition, plan, mesh)
    order = np.concatenate([shuffled(28, seed=3, epoch=1 + e) for e in range(6)])
    losses = []
    for rows in order[: STEPS * BATCH].reshape(STEPS, 1, BATCH):
        state = step(
            state._replace(totals=replicate(zero_totals(), mesh)),
            frozen=frozen,
            images=replicate(Images(data.train.images, data.train.labels), mesh),
            indices=rows,
            mask=np.ones((1, BATCH), np.float32),
            key=jax.random.fold_in(jax.random.key(3), 0),
        )
        losses.append(float(state.totals["loss"]) / BATCH)
    # At high rates roundings grow fast.
    same = test.rates < 0.02
    assert same.sum() > 12
    np.testing.assert_allclose(test.losses[same], np.array(losses)[: same.sum()], 1e-4)
    assert np.ptp(test.losses) > 0.1


def test_all_groups_come_first_and_then_each_one(tested):
    _, _, tests = tested
    assert [(t.phase, t.group, t.own) for t in tests] == [
        ("both", ALL, 1e-3),
        ("both", "last", 1e-4),
        ("both", "head", 1e-3),
    ]
    for test in tests:
        assert test.rates[0] == 1e-7
        assert len(test.rates) == len(test.losses) == len(test.smoothed) <= STEPS
        assert test.losses[0] == tests[0].losses[0]
        assert (test.steepest is None) == (test.valley is None)
        assert test.note or test.steepest
    both = tests[0]
    assert 1e-5 < both.valley < both.rates[-1]


def test_the_model_stays_as_it_is(tested):
    (definition, weights), model, _ = tested
    assert split(model).definition == definition
    for path, array in weights_of(model).items():
        np.testing.assert_array_equal(array, weights[path], err_msg=path)


def test_the_same_again_is_the_same(tested):
    again = find(new_model(), lambda model: two_groups())
    for old, new in zip(tested[2], again, strict=True):
        for name in RangeTest.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(old, name), getattr(new, name))


def test_images_are_drawn_as_training_draws_them():
    """At such low rates a batch's loss is the mean of its images' own losses."""
    data = make_data()
    labels = (np.arange(28) % 7 == 0).astype(np.int32)
    data = replace(data, train=replace(data.train, labels=labels))
    options = {"batch_size": 28, "steps": 10, "low": 1e-9, "high": 1e-8, "seed": 3}
    model = tiny(2)
    tests = {
        sampling: find_learning_rates(
            model, data, head_only(), sampling=sampling, **options
        )[0]
        for sampling in ("shuffle", "balanced")
    }
    probs = predict_split(model, data, "train").probs
    losses = -np.log(probs[np.arange(28), labels])
    drawn = [drawn_balanced(labels, seed=3, epoch=1 + e) for e in range(10)]
    expected = [losses[rows].mean() for rows in drawn]
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(tests["balanced"].losses, expected, rtol=1e-4)
    np.testing.assert_allclose(tests["shuffle"].losses, losses.mean(), rtol=1e-4)


def test_images_without_a_known_label_are_left_out():
    data = make_data()
    labels = np.stack([data.train.labels, 1 - data.train.labels], axis=1)
    labels[4:24] = MISSING
    labels[0, 1] = MISSING
    parts = {
        name: replace(getattr(data, name), labels=labels)
        for name in ("train", "val", "test")
    }
    data = replace(data, task="multilabel", **parts)
    (test,) = find_learning_rates(
        new_model(), data, head_only(), batch_size=2, steps=10, low=1e-9, high=1e-8
    )
    assert len(test.losses) == 10
    assert np.isfinite(test.losses).all()


def test_later_phases_start_from_the_first_weights_too():
    first = head_only().phases[0]
    later = Strategy(name="twice", phases=(first, replace(first, name="later")))
    # Without dropout, whose key differs between phases.
    model = tiny(2)
    tests = find(model, later, accumulate=2)
    assert [(test.phase, test.group) for test in tests] == [
        ("head", "head"),
        ("later", "head"),
    ]
    np.testing.assert_array_equal(tests[0].losses, tests[1].losses)
    assert np.ptp(tests[0].losses) > 0.1


def test_a_loss_that_diverges_ends_the_test():
    (test,) = find(new_model(), head_only(), high=1e8)
    assert len(test.rates) < STEPS
    assert np.isfinite(test.losses).all()
    assert test.smoothed[-1] > 4 * test.smoothed.min()
    lowest_so_far = np.minimum.accumulate(test.smoothed)
    assert (test.smoothed <= 4 * lowest_so_far)[:-1].all()


def test_rates_that_change_nothing_get_a_note_and_no_suggestion():
    (test,) = find(new_model(), head_only(), low=1e-12, high=1e-10)
    assert test.steepest is None
    assert test.valley is None
    assert test.note == NO_FALL


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"steps": 9}, "steps must be at least 10, got 9"),
        ({"low": 1e-2, "high": 1e-3}, "must rise from low to high, above 0; got 0.01"),
        ({"low": 0}, "above 0; got 0 and 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_arguments_are_checked(options, expected):
    with pytest.raises(InputError, match=expected):
        find(new_model(), head_only(), **options)


def test_rates_that_are_all_zero_have_no_ratios():
    with pytest.raises(InputError, match="Phase 'head': all learning rates are 0"):
        find(new_model(), head_only(rate=0))


def test_weights_that_are_not_finite_are_refused():
    model = new_model()
    weights = weights_of(model)
    weights["head.out.bias"][:] = np.nan
    load(model, weights)
    with pytest.raises(InputError, match="The loss of the starting weights is nan"):
        find(model, head_only())
