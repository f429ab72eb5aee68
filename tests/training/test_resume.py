"""A training that was killed goes on, and ends as if it had not been."""

import dataclasses
import functools
import os
import signal

import numpy as np
import optax
import pytest
from fixtures.training_results import snapshot, without_timings

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.data import create_augmentation
from jaxmed.data.transforms.mixup import Mixing
from jaxmed.errors import InputError
from jaxmed.runtime.interrupts import Interrupted, request_stop
from jaxmed.runtime.locks import HOLDER, LOCK
from jaxmed.strategies import Group, Optimizer, Phase, Schedule, Strategy
from jaxmed.training.config import CacheSettings
from jaxmed.training.fit import fit
from jaxmed.training.loss import Loss
from jaxmed.training.sync import SyncInterval


def group(name, *patterns, rate, optimizer="adam", **settings):
    optimizer = Optimizer(name=optimizer, learning_rate=rate, **settings)
    return Group(name=name, patterns=patterns, optimizer=optimizer)


def eventful():
    """Stops early, lowers its rates, and has other groups in its second phase."""
    watching = Schedule(name="plateau", patience=0, gamma=0.9, watch="val_accuracy")
    first = Phase(
        name="head",
        epochs=9,
        groups=(group("head", "head", rate=1.0),),
        schedule=watching,
        patience=2,
    )
    second = Phase(
        name="all",
        epochs=4,
        groups=(
            group("low", "backbone", rate=0.01, l2_sp=0.1),
            group("high", "head", rate=0.3, optimizer="adamw", weight_decay=0.1),
        ),
        schedule=Schedule(name="cosine", warmup_epochs=1),
        clip_norm=1.0,
    )
    return Strategy(name="eventful", phases=(first, second))


EVERYTHING = {
    "batch_size": 4,
    "accumulate": 2,
    "ema": 0.6,
    "augmentation": create_augmentation("zoom_flip_rotate_jitter"),
    "mixing": Mixing(mixup=0.4),
    "loss": Loss(class_weights=(0.3, 2.0, 1.1), label_smoothing=0.1),
    "select": "val_loss",
    "seed": 3,
    # Of four an epoch: after the third.
    "checkpoint_steps": 3,
}


def names(folder):
    """What a folder holds, but for the lock of a training that is at work."""
    return {entry.name for entry in folder.iterdir()} - {LOCK, HOLDER}


class Killed(Exception):
    pass


def save_and_die(boundary, save=Checkpoints.save):
    def instead(self, position, *args, **settings):
        save(self, position, *args, **settings)
        if str(position) == boundary:
            raise Killed

    return instead


@pytest.fixture(scope="module")
def uninterrupted(new_tiny, quarters, tmp_path_factory):
    """A training, and what its folder held after every checkpoint."""
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    held, save = {}, Checkpoints.save

    def save_and_look(self, position, *args, **settings):
        save(self, position, *args, **settings)
        self.wait()
        held[str(position)] = names(folder)

    model = new_tiny(head="dropout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_look)
        result = fit(model, quarters, eventful(), checkpoints=folder, **EVERYTHING)
    return model, result, folder, held


def test_the_eventful_training_is_eventful(uninterrupted):
    _, result, _, _ = uninterrupted
    first = [row for row in result.history if row["phase"] == "head"]
    second = result.history[len(first) :]
    assert 3 <= len(first) < 9
    assert len(second) == 4
    assert len({row["lr_head"] for row in first}) > 1
    assert {c for c in first[0] if c.startswith("lr_")} == {"lr_head"}
    assert {c for c in second[0] if c.startswith("lr_")} == {"lr_low", "lr_high"}
    # 30 images in windows of two batches of four: four steps an epoch.
    assert [row["step"] for row in second] == [4, 8, 12, 16]
    assert [row["step"] for row in first] == [4 * i + 4 for i in range(len(first))]


def needs(history, name):
    """Which checkpoints it takes to go on from one of them."""
    done = history[: int(name.partition("+")[0])]
    same = [row for row in done if row["phase"] == done[-1]["phase"]]
    best = [min(rows, key=lambda row: row["val_loss"]) for rows in (done, same) if rows]
    return {name} | {str(row["epoch"]) for row in best}


def test_the_folder_holds_what_the_last_two_checkpoints_need(uninterrupted):
    _, result, _, held = uninterrupted
    order, before = list(held), set()
    assert order[:4] == ["0+3", "1", "1+3", "2"]
    assert len(order) == 2 * len(result.history)
    for name, found in held.items():
        assert found == needs(result.history, name) | before
        before = needs(result.history, name)


def test_a_training_killed_after_any_checkpoint_ends_the_same(
    new_tiny, quarters, uninterrupted, tmp_path
):
    model, result, _, held = uninterrupted
    expected = snapshot(model)
    first = sum(row["phase"] == "head" for row in result.history)
    # Some of both kinds, and those where the second phase begins.
    for boundary in dict.fromkeys([*list(held)[::5], str(first), f"{first}+3"]):
        folder = tmp_path / f"killed-{boundary}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "save", save_and_die(boundary))
            with pytest.raises(Killed):
                fit(
                    new_tiny(head="dropout"), quarters, eventful(),
                    checkpoints=folder, **EVERYTHING,
                )  # fmt: skip
        assert names(folder) == held[boundary]
        resumed = new_tiny(head="dropout")
        again = fit(resumed, quarters, eventful(), checkpoints=folder, **EVERYTHING)
        assert without_timings(again.history) == without_timings(result.history)
        assert again.best == result.best
        assert names(folder) == list(held.values())[-1]
        for path, array in snapshot(resumed).items():
            np.testing.assert_array_equal(array, expected[path], err_msg=path)


@pytest.fixture
def sigterm_asks():
    before = signal.signal(signal.SIGTERM, lambda number, _: request_stop(number))
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm_asks")
@pytest.mark.parametrize(("after", "boundary"), [(2, "0+2"), (8, "1+4")])
def test_a_signal_saves_at_the_next_step_and_ends_the_training(
    new_tiny, quarters, uninterrupted, tmp_path, after, boundary
):
    model, result, _, _ = uninterrupted
    # Without it, nothing is saved within an epoch.
    settings = EVERYTHING | {"checkpoint_steps": 0, "checkpoints": tmp_path}
    is_due, steps = SyncInterval.is_due, []

    def ask_after_step(self):
        steps.append(self)
        if len(steps) == after:
            os.kill(os.getpid(), signal.SIGTERM)
        return is_due(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SyncInterval, "is_due", ask_after_step)
        with pytest.raises(Interrupted) as raised:
            fit(new_tiny(head="dropout"), quarters, eventful(), **settings)
    assert raised.value.number == signal.SIGTERM
    assert names(tmp_path) == {boundary, boundary[0]} - {"0"}
    resumed = new_tiny(head="dropout")
    again = fit(resumed, quarters, eventful(), **settings)
    assert without_timings(again.history) == without_timings(result.history)
    expected = snapshot(model)
    for path, array in snapshot(resumed).items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


def turned(data, **changes):
    """The data set with something of its train or val split changed."""
    splits = {
        name: dataclasses.replace(getattr(data, name), **change)
        for name, change in changes.items()
    }
    return dataclasses.replace(data, **splits)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 0.0}, "ema was 0.6, and now is 0.0. Use another folder"),
        ({"select": "val_f1"}, "select was 'val_loss', and now is 'val_f1'"),
        ({"batch_size": 5}, "batch_size was 4, and now is 5"),
        ({"accumulate": 1}, "accumulate was 2, and now is 1"),
        ({"seed": 4}, "seed was 3, and now is 4"),
        ({"sampling": "balanced"}, "sampling was 'shuffle'"),
        (
            {"loss": Loss(name="focal")},
            r"loss.name was 'cross_entropy'.*loss.class_weights was",
        ),
        ({"mixing": Mixing(cutmix=0.4)}, "mixing.mixup was 0.4"),
        ({"augmentation": create_augmentation("xray")}, "augmentation.crop"),
        ({"precision": "bfloat16"}, "precision was 'float32'"),
        ({"cache": CacheSettings(views=3)}, "cache.views was 0, and now is 3"),
    ],
)
def test_checkpoints_of_other_settings_are_refused(
    new_tiny, quarters, uninterrupted, settings, message
):
    before = names(uninterrupted[2])
    with pytest.raises(InputError, match=message):
        fit(
            new_tiny(head="dropout"), quarters, eventful(),
            checkpoints=uninterrupted[2], **EVERYTHING | settings,
        )  # fmt: skip
    assert names(uninterrupted[2]) == before


def test_checkpoints_of_other_images_labels_or_weights_are_refused(
    new_tiny, quarters, uninterrupted
):
    images, labels = quarters.train.images.copy(), quarters.train.labels
    images[-1, -1, -1, -1] ^= 1
    val = quarters.val
    other = new_tiny(head="dropout")
    other.backbone.conv1.kernel[...] *= 1.001
    hidden = new_tiny(head="hidden")
    fewer = dataclasses.replace(quarters, train=quarters.train.take(np.arange(29)))
    renamed = dataclasses.replace(quarters, class_names=("a", "b", "c"))
    train = {"images": images}, {"labels": labels[::-1]}
    vals = {"images": 255 - val.images}, {"labels": val.labels[::-1]}
    for message, model, data in (
        ("the training images are others", None, turned(quarters, train=train[0])),
        ("the labels of the training", None, turned(quarters, train=train[1])),
        ("the validation images", None, turned(quarters, val=vals[0])),
        ("labels of the validation", None, turned(quarters, val=vals[1])),
        ("train.number of images was 30", None, fewer),
        ("class_names was", None, renamed),
        ("starts from other weights", other, quarters),
        ("model.head was 'dropout', and now is 'hidden'", hidden, quarters),
    ):
        with pytest.raises(InputError, match=message):
            fit(
                model or new_tiny(head="dropout"), data, eventful(),
                checkpoints=uninterrupted[2], **EVERYTHING,
            )  # fmt: skip
    # The test split decides nothing, nor what its images are called.
    test = dataclasses.replace(quarters.test, images=255 - quarters.test.images)
    ids = tuple(f"renamed/{i}" for i in range(30))
    same = dataclasses.replace(turned(quarters, train={"ids": ids}), test=test)
    read = fit(
        new_tiny(head="dropout"), same, eventful(),
        checkpoints=uninterrupted[2], **EVERYTHING,
    )  # fmt: skip
    assert read.history == uninterrupted[1].history


def changed(*, phase=1, groups=None, **settings):
    """The eventful strategy with something of a phase changed."""
    phases = list(eventful().phases)
    if groups:
        optimizer = dataclasses.replace(phases[phase].groups[0].optimizer, **groups)
        first = dataclasses.replace(phases[phase].groups[0], optimizer=optimizer)
        settings["groups"] = (first, *phases[phase].groups[1:])
    phases[phase] = dataclasses.replace(phases[phase], **settings)
    return Strategy(name="eventful", phases=tuple(phases))


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ("frozen", r"in phase 'head' epochs was 9, and now is 5; .* and \d more"),
        (
            Strategy(name="eventful", phases=eventful().phases[:1]),
            "the phases were 'head', 'all', and now there are fewer",
        ),
        (changed(groups={"learning_rate": 0.1}), r"low.optimizer.learning_rate"),
        (changed(phase=0, groups={"weight_decay": 0.1}), "groups.head.opt"),
        (changed(groups={"name": "lion"}), "optimizer.name was 'adam'"),
        (changed(clip_norm=None), "clip_norm was 1.0, and now is not there"),
        (changed(frozen_bn_stats=("backbone",)), "frozen_bn_stats was"),
        (changed(patience=3), "patience was"),
        (changed(restore_best=False), "restore_best was True, and now is False"),
        (changed(schedule=Schedule(name="cosine")), "schedule.warmup_epochs was 1"),
        (changed(epochs=9), "had 4 epochs, and now 9, and the rates of its cosine"),
        (changed(phase=0, epochs=2), "in phase 'head' epochs was 9, and now is 2"),
    ],
)  # fmt: skip
def test_checkpoints_of_another_strategy_are_refused(
    new_tiny, quarters, uninterrupted, strategy, message
):
    with pytest.raises(InputError, match=message):
        fit(
            new_tiny(head="dropout"), quarters, strategy,
            checkpoints=uninterrupted[2], **EVERYTHING,
        )  # fmt: skip


def one_phase(epochs, *, optimizer=None, **settings):
    optimizer = optimizer or Optimizer(learning_rate=0.1)
    groups = (Group(name="head", patterns=("head",), optimizer=optimizer),)
    return Strategy(
        name="one",
        phases=(Phase(name="all", epochs=epochs, groups=groups, **settings),),
    )


@pytest.mark.parametrize(
    "schedule",
    [Schedule(), Schedule(name="step", every=2), Schedule(warmup_epochs=3)],
    ids=["constant", "step", "warmup"],
)
def test_a_finished_training_is_trained_on_as_if_it_had_been_asked_for_at_once(
    new_tiny, quarters, tmp_path, schedule
):
    options = {"batch_size": 8, "ema": 0.9, "select": "val_loss"}
    whole, longer = new_tiny(), new_tiny()
    expected = fit(whole, quarters, one_phase(5, schedule=schedule), **options)
    fit(
        new_tiny(), quarters, one_phase(2, schedule=schedule),
        checkpoints=tmp_path, **options,
    )  # fmt: skip
    found = fit(
        longer, quarters, one_phase(5, schedule=schedule),
        checkpoints=tmp_path, **options,
    )  # fmt: skip
    assert without_timings(found.history) == without_timings(expected.history)
    for path, array in snapshot(longer).items():
        np.testing.assert_array_equal(array, snapshot(whole)[path], err_msg=path)
    with pytest.raises(InputError, match="had 5 epochs, and now 4, of which 5 have"):
        fit(
            new_tiny(), quarters, one_phase(4, schedule=schedule),
            checkpoints=tmp_path, **options,
        )  # fmt: skip


def own(momentum):
    return lambda rate: optax.sgd(rate, momentum=momentum)


def test_an_optimizer_of_ones_own_is_known_by_its_code(new_tiny, quarters, tmp_path):
    def strategy(make):
        return one_phase(
            1, optimizer=Optimizer(name="own", learning_rate=0.1, make=make)
        )

    options = {"checkpoints": tmp_path, "batch_size": 8}
    first = fit(new_tiny(), quarters, strategy(own(0.9)), **options)
    same = fit(new_tiny(), quarters, strategy(own(0.9)), **options)
    assert same.history == first.history
    for other in (
        own(0.5),
        functools.partial(optax.sgd, momentum=0.9),
        lambda rate: optax.sgd(rate, momentum=0.9, nesterov=True),
    ):
        with pytest.raises(InputError, match=r"optimizer.make was"):
            fit(new_tiny(), quarters, strategy(other), **options)
