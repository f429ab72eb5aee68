"""A training that was killed goes on, and ends as if it had not been."""

import dataclasses
import os
import shutil
import signal

import jax
import numpy as np
import pytest

from jaxmed.data import create_augmentation
from jaxmed.errors import InputError
from jaxmed.interrupts import Interrupted, ask
from jaxmed.models.parameters import split
from jaxmed.strategies import Group, Optimizer, Phase, Schedule, Strategy
from jaxmed.training.checkpoint import Checkpoints
from jaxmed.training.fit import fit
from jaxmed.training.interim import Interim
from jaxmed.training.mixing import Mixing
from jaxmed.training.objective import Loss


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
            group("low", "backbone", rate=0.01, pull_to_start=0.1),
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


def snapshot(model):
    parts = split(model)
    return jax.device_get(parts.params | parts.stats)


def without_timings(history):
    timings = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timings} for row in history]


def names(folder):
    return {entry.name for entry in folder.iterdir()}


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
    before = signal.signal(signal.SIGTERM, lambda number, _: ask(number))
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
    look, steps = Interim.__call__, []

    def ask_and_look(self, state, done):
        steps.append(done)
        if len(steps) == after:
            os.kill(os.getpid(), signal.SIGTERM)
        look(self, state, done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interim, "__call__", ask_and_look)
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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ema": 0.0}, "other optimisers, or another ema"),
        ({"select": "val_f1"}, "chose the best epoch by val_loss, not by val_f1"),
        ({"batch_size": 5}, "of a training with batch_size 4, not 5. Use another"),
        ({"seed": 4}, "of a training with seed 3, not 4"),
    ],
)
def test_checkpoints_of_other_settings_are_refused(
    new_tiny, quarters, uninterrupted, tmp_path, settings, message
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(uninterrupted[2], folder)
    longer = eventful()
    phases = (longer.phases[0], dataclasses.replace(longer.phases[1], epochs=9))
    strategy = dataclasses.replace(longer, phases=phases)
    with pytest.raises(InputError, match=message):
        fit(
            new_tiny(head="dropout"), quarters, strategy,
            checkpoints=folder, **EVERYTHING | settings,
        )  # fmt: skip


def test_checkpoints_of_another_strategy_are_refused(new_tiny, quarters, uninterrupted):
    folder = uninterrupted[2]
    with pytest.raises(InputError, match=r"not of the strategy 'frozen'.*4 in 'all'"):
        fit(
            new_tiny(head="dropout"), quarters, "frozen",
            checkpoints=folder, **EVERYTHING,
        )  # fmt: skip
