"""Fitting, its history, the choice of the best epoch, and going on where it stopped."""

import dataclasses
import shutil

import numpy as np
import pytest
from fixtures.tiny_network import tiny
from sklearn.metrics import log_loss, roc_auc_score

from jaxmed.checkpoints.checkpoint import load_best_weights
from jaxmed.data import create_augmentation
from jaxmed.data.batching import drawn_balanced
from jaxmed.data.dataset import Dataset, Split
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.inference.forward import predict, predict_split
from jaxmed.models.parameters import split
from jaxmed.strategies import Group, Optimizer, Phase, Strategy
from jaxmed.training.fit import fit

SIZE = 16
TIMINGS = ("seconds", "images_per_second")


def make_split(name, rng, count, task="multiclass"):
    """Images whose class is their brightest quarter, in noise."""
    labels = np.arange(count) % 3
    images = rng.integers(0, 120, (count, 16, 16, 1))
    for image, label in zip(images, labels, strict=True):
        image[8 * (label // 2) :, 8 * (label % 2) :][:8, :8] += 100
    if task == "multilabel":
        labels = (labels[:, None] == [0, 1, 2]).astype(np.int32)
    return Split(
        images=images.astype(np.uint8),
        labels=labels.astype(np.int32),
        ids=tuple(f"{name}/{i}" for i in range(count)),
    )


def make_data(task="multiclass"):
    rng = np.random.default_rng(0)
    return Dataset(
        name="quarters",
        source="test",
        task=task,
        class_names=("left", "right", "below"),
        train=make_split("train", rng, 42, task),
        val=make_split("val", rng, 24, task),
        test=make_split("test", rng, 24, task),
        image_size=SIZE,
    )


def new_model():
    return tiny(head="dropout")


def two_phases(rate=3e-3, epochs=3):
    def phase(name, epochs, *patterns):
        optimizer = Optimizer(learning_rate=rate)
        group = Group(name=name, patterns=patterns, optimizer=optimizer)
        return Phase(name=name, epochs=epochs, groups=(group,))

    phases = (phase("head", 1, "head"), phase("all", epochs, "backbone", "head"))
    return Strategy(name="two", phases=phases)


def weights_of(model):
    parts = split(model)
    return {p: np.array(a) for p, a in (parts.params | parts.stats).items()}


def without_timings(history):
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in history]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    model = new_model()
    result = fit(
        model, make_data(), two_phases(), batch_size=16, seed=5, checkpoints=folder
    )
    return model, result, folder


def test_history_and_choice(uninterrupted):
    model, result, _ = uninterrupted
    history = result.history
    assert [row["phase"] for row in history] == ["head", "all", "all", "all"]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert [row["step"] for row in history] == [3, 3, 6, 9]
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert history[0]["lr_head"] == 3e-3
    assert "lr_all" not in history[0]
    best = max(history, key=lambda row: row["val_auroc"])
    assert result.best == {
        "phase": best["phase"],
        "epoch": best["epoch"],
        "metric": "val_auroc",
        "value": best["val_auroc"],
    }
    val = make_data().val
    probs = predict(
        model,
        val.images,
        preprocessing=Preprocessing(image_size=SIZE),
        task="multiclass",
        batch_size=7,
    )
    auroc = roc_auc_score(val.labels, probs, multi_class="ovr")
    assert auroc == pytest.approx(best["val_auroc"], abs=1e-12)
    assert (probs.argmax(1) == val.labels).mean() == best["val_accuracy"]


@pytest.mark.parametrize("epochs", [1, 3], ids=["between_phases", "within_a_phase"])
def test_resumed_training_is_bit_identical(uninterrupted, tmp_path, epochs):
    model, result, _ = uninterrupted
    folder = tmp_path / "checkpoints"
    data = make_data()
    part = Strategy(
        name="two",
        phases=two_phases().phases[:1] if epochs == 1 else two_phases(epochs=2).phases,
    )
    fit(new_model(), data, part, batch_size=16, seed=5, checkpoints=folder)
    resumed = new_model()
    again = fit(resumed, data, two_phases(), batch_size=16, seed=5, checkpoints=folder)
    assert without_timings(again.history) == without_timings(result.history)
    assert again.history[0]["seconds"] != result.history[0]["seconds"]
    assert again.best == result.best
    expected = weights_of(model)
    for path, array in weights_of(resumed).items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


def test_finished_training_is_read_back(uninterrupted, tmp_path):
    model, result, folder = uninterrupted
    shutil.copytree(folder, tmp_path / "checkpoints")
    again = new_model()
    read = fit(
        again, make_data(), two_phases(), batch_size=16, seed=5,
        checkpoints=tmp_path / "checkpoints",
    )  # fmt: skip
    assert read.history == result.history
    for path, array in weights_of(again).items():
        np.testing.assert_array_equal(array, weights_of(model)[path], err_msg=path)


def test_best_and_last_two_checkpoints_are_kept(uninterrupted):
    model, result, folder = uninterrupted
    kept = {int(entry.name) for entry in folder.iterdir()}
    last = len(result.history)
    assert kept >= {result.best["epoch"], last - 1, last}
    weights, progress = load_best_weights(folder)
    assert progress["best"] == result.best
    expected = weights_of(model)
    assert weights.keys() == expected.keys()
    for path, array in weights.items():
        np.testing.assert_array_equal(array, expected[path])


def test_checkpoints_of_another_model_are_refused(uninterrupted):
    _, _, folder = uninterrupted
    other = tiny(head="hidden")
    with pytest.raises(
        InputError, match=r"model.head was 'dropout', and now is 'hidden'"
    ):
        fit(other, make_data(), two_phases(), checkpoints=folder)


def test_no_checkpoints_to_load(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        load_best_weights(tmp_path / "nothing")
    with pytest.raises(InputError, match="no complete checkpoint"):
        load_best_weights(tmp_path)


def test_balanced_sampling_trains_on_the_images_drawn():
    data, strategy = make_data(), two_phases(epochs=1)
    rows = np.concatenate([np.arange(0, 42, 3), np.arange(1, 9, 3), [2]])
    data = dataclasses.replace(data, train=data.train.take(rows))
    # Without dropout, the order within the one batch of an epoch does not matter.
    model, expected = tiny(), tiny()
    first = dataclasses.replace(strategy, phases=strategy.phases[:1])
    options = {"batch_size": len(rows), "seed": 3, "select": "val_loss"}
    history = fit(model, data, first, sampling="balanced", **options).history
    drawn = drawn_balanced(data.train.labels, seed=3, epoch=1)
    taken = data.train.take(drawn)
    taken = dataclasses.replace(taken, ids=tuple(map(str, range(len(drawn)))))
    same = fit(expected, dataclasses.replace(data, train=taken), first, **options)
    assert len(np.unique(drawn)) < len(rows)
    for name in ("train_loss", "val_loss"):
        assert history[0][name] == pytest.approx(same.history[0][name], rel=1e-4)
    with pytest.raises(InputError, match="not defined for a multilabel task"):
        fit(model, make_data("multilabel"), first, sampling="balanced")


def test_multilabel_and_loss_as_the_choice():
    model = tiny()
    result = fit(
        model, make_data("multilabel"), two_phases(epochs=1), select="val_loss"
    )
    best = min(result.history, key=lambda row: row["val_loss"])
    assert result.best["epoch"] == best["epoch"]
    assert result.best["value"] == best["val_loss"]


def test_a_single_logit():
    made = make_data()
    splits = {
        name: dataclasses.replace(
            getattr(made, name), labels=getattr(made, name).labels // 2
        )
        for name in ("train", "val", "test")
    }
    data = dataclasses.replace(
        made, task="binary", class_names=("above", "below"), **splits
    )
    model = tiny(1)
    result = fit(model, data, two_phases(), batch_size=16)
    history = result.history
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    val = data.val
    preprocessing = Preprocessing(image_size=SIZE)
    probs = predict(model, val.images, preprocessing=preprocessing, task="binary")
    assert probs.shape == (24, 2)
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)
    best = history[result.best["epoch"] - 1]
    auroc = roc_auc_score(val.labels, probs[:, 1])
    assert auroc == pytest.approx(best["val_auroc"], abs=1e-12)
    assert (probs.argmax(1) == val.labels).mean() == best["val_accuracy"]
    assert log_loss(val.labels, probs) == pytest.approx(best["val_loss"], rel=1e-5)

    three = tiny()
    with pytest.raises(InputError, match=r"2 classes, .* 3 logits.*, or with 1 for a"):
        fit(three, data, two_phases())
    with pytest.raises(InputError, match=r"3 classes, .* 1 logits.*num_classes=3\."):
        fit(model, made, two_phases())


def test_arguments_are_checked():
    model, data = new_model(), make_data()
    with pytest.raises(InputError, match="Did you mean 'val_auroc'"):
        fit(model, data, "full", select="val_auc")
    with pytest.raises(InputError, match="batch_size must be at least 1, got 0"):
        fit(model, data, "full", batch_size=0)
    with pytest.raises(InputError, match="Did you mean 'full'"):
        fit(model, data, "ful")


def test_a_loss_that_is_not_finite_stops_the_training():
    with pytest.raises(
        InputError, match=r"became infinite or not .* epoch \d, step \d"
    ):
        fit(new_model(), make_data(), two_phases(rate=3e38))


def test_what_a_killed_run_was_writing_is_removed(uninterrupted, tmp_path):
    _, result, folder = uninterrupted
    copy = tmp_path / "checkpoints"
    shutil.copytree(folder, copy)
    half_written = copy / ".unfinished-01234567-9"
    shutil.copytree(copy / str(len(result.history)), half_written)
    load_best_weights(copy)
    assert half_written.exists()
    again = fit(
        new_model(), make_data(), two_phases(), batch_size=16, seed=5, checkpoints=copy
    )
    assert again.history == result.history
    assert not half_written.exists()


def test_a_gray_model_trains_on_gray_images():
    model = tiny(in_channels=1)
    result = fit(model, make_data(), two_phases(epochs=1))
    predictions = predict_split(model, make_data(), "val")
    hits = predictions.probs.argmax(axis=1) == predictions.labels
    best = result.history[result.best["epoch"] - 1]
    assert hits.mean() == best["val_accuracy"]


def test_training_images_are_augmented_and_validated_ones_are_not(new_tiny, quarters):
    """With a rate of 0 the weights stay, so that the losses are those of the images."""
    head = Group(
        name="head", patterns=("head",), optimizer=Optimizer(learning_rate=0.0)
    )
    phase = Phase(name="head", epochs=2, groups=(head,))
    frozen = Strategy(name="frozen", phases=(phase,))

    def losses(**more):
        history = fit(new_tiny(), quarters, frozen, seed=4, **more).history
        return [[row[name] for row in history] for name in ("train_loss", "val_loss")]

    train, val = losses()
    # Up to the order of the images.
    assert train[0] == pytest.approx(train[1], rel=1e-5)
    augmented, same = losses(augmentation=create_augmentation("dermoscopy"))
    assert same == val
    assert len({round(loss, 5) for loss in (*augmented, train[0])}) == 3


def test_bfloat16_trains_near_float32_and_leaves_frozen_weights_alone(
    new_tiny, quarters
):
    optimizer = Optimizer(learning_rate=1e-2)
    group = Group(name="head", patterns=("head",), optimizer=optimizer)
    frozen = Phase(name="head", epochs=2, groups=(group,))
    found = {}
    for precision in ("float32", "bfloat16"):
        model = new_tiny()
        before = weights_of(model)
        history = fit(
            model, quarters, Strategy(name="head", phases=(frozen,)),
            batch_size=8, precision=precision,
        ).history  # fmt: skip
        probs = predict_split(model, quarters, "val").probs
        found[precision] = history, probs
        for path, array in weights_of(model).items():
            assert array.dtype == np.float32
            same = np.array_equal(array, before[path])
            assert same == path.startswith("backbone."), path
    (ours, probs), (theirs, expected) = found["bfloat16"], found["float32"]
    assert 0 < abs(probs - expected).max() < 0.02
    for ours_row, row in zip(ours, theirs, strict=True):
        assert ours_row["train_loss"] == pytest.approx(row["train_loss"], rel=0.02)
        assert ours_row["val_loss"] == pytest.approx(row["val_loss"], rel=0.02)


def test_an_unknown_feed_is_a_sentence(new_tiny, quarters):
    with pytest.raises(InputError, match="Did you mean 'stream'"):
        fit(new_tiny(), quarters, "frozen", feed="streams")
