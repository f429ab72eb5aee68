"""The epochs of a training: torch's loop, early stops, and the best weights."""

import jax
import numpy as np
import pytest
import torch
from fixtures.training_results import snapshot, without_timings
from torch.optim import lr_scheduler

from jaxmed.checkpoints.checkpoint import load_best_weights, open_checkpoints
from jaxmed.data.batching import shuffled
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.parameters import load
from jaxmed.strategies import Group, Optimizer, Phase, Schedule, Strategy
from jaxmed.training.fit import fit
from jaxmed.training.loss import Loss
from jaxmed.training.state import average_decay, describe_average

BATCH, RATE = 8, 0.3
WEIGHTS = (0.3, 2.0, 1.1)
PREPARE = Preprocessing(image_size=12)


def group(name, *patterns, rate=RATE, optimizer="adam", **settings):
    optimizer = Optimizer(name=optimizer, learning_rate=rate, **settings)
    return Group(name=name, patterns=patterns, optimizer=optimizer)


def head_phase(epochs, *, name="head", rate=RATE, **settings):
    groups = (group("head", "head", rate=rate),)
    return Phase(name=name, epochs=epochs, groups=groups, **settings)


def two(first, second):
    return Strategy(name="two", phases=(first, second))


def assert_equal(weights, expected):
    assert weights.keys() == expected.keys()
    for path, array in expected.items():
        np.testing.assert_array_equal(weights[path], array, err_msg=path)


# Fitting is torch's loop.


def torch_inputs(split):
    images = np.asarray(PREPARE(split.images)).transpose(0, 3, 1, 2)
    return torch.tensor(images).double(), torch.tensor(split.labels).long()


def weighted(logits, labels):
    """Sums the loss over images, and the weights in it."""
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    losses = torch.nn.functional.cross_entropy(
        logits, labels, weight, reduction="sum", label_smoothing=0.1
    )
    return losses, weight[labels].sum()


def focal(logits, labels):
    probs = logits.softmax(dim=1)[torch.arange(len(labels)), labels]
    return (-((1 - probs) ** 1.5) * probs.log()).sum(), torch.tensor(len(labels))


def torch_fit(twin, data, epochs, loss_of, schedule, *, by):
    """The loop as PyTorch programs write it; returns its history."""
    low = [p for name, p in twin.named_parameters() if not name.startswith("fc")]
    optimizer = torch.optim.SGD(
        [
            {"params": low, "lr": RATE / 10},
            {"params": twin.fc.parameters(), "lr": RATE},
        ],
        momentum=0.9,
    )
    scheduler = schedule(optimizer)
    inputs, labels = torch_inputs(data.train)
    history = []
    for epoch in range(1, epochs + 1):
        twin.train()
        order = shuffled(len(labels), seed=7, epoch=epoch)
        summed, weight = 0.0, 0.0
        for start in range(0, len(order), BATCH):
            rows = torch.tensor(order[start : start + BATCH]).long()
            optimizer.zero_grad()
            losses, weights = loss_of(twin(inputs[rows]), labels[rows])
            (losses / weights).backward()
            optimizer.step()
            rates = [group["lr"] for group in optimizer.param_groups]
            if by == "step":
                scheduler.step()
            summed, weight = summed + losses.item(), weight + weights.item()
        twin.eval()
        with torch.no_grad():
            val_inputs, val_labels = torch_inputs(data.val)
            logits = twin(val_inputs)
            losses, weights = loss_of(logits, val_labels)
        history.append(
            {
                "train_loss": summed / weight,
                "val_loss": (losses / weights).item(),
                "val_accuracy": (logits.argmax(1) == val_labels).double().mean().item(),
                "lr_low": rates[0],
                "lr_high": rates[1],
            }
        )
        if by == "plateau":
            scheduler.step(history[-1]["val_loss"])
    return history


def plateau(optimizer):
    return lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.3, patience=0)


def cosine(optimizer):
    return lr_scheduler.CosineAnnealingLR(optimizer, 4 * 6)


def one_cycle(optimizer):
    return lr_scheduler.OneCycleLR(optimizer, [RATE / 10, RATE], 4 * 6)


@pytest.mark.parametrize(
    ("schedule", "torchs", "by", "loss", "loss_of"),
    [
        pytest.param(
            Schedule(name="plateau", gamma=0.3, patience=0), plateau, "plateau",
            Loss(class_weights=WEIGHTS, label_smoothing=0.1), weighted,
            id="plateau-weighted",
        ),
        pytest.param(
            Schedule(name="cosine"), cosine, "step",
            Loss(name="focal", focal_gamma=1.5), focal,
            id="cosine-focal",
        ),
        pytest.param(
            Schedule(name="one_cycle"), one_cycle, "step",
            Loss(class_weights=WEIGHTS, label_smoothing=0.1), weighted,
            id="one_cycle-weighted",
        ),
    ],
)  # fmt: skip
def test_a_history_is_that_of_torchs_loop(
    new_tiny, twin_of, quarters, schedule, torchs, by, loss, loss_of
):
    groups = tuple(
        group(name, *patterns, rate=rate, optimizer="sgd", momentum=0.9)
        for name, patterns, rate in (
            ("low", ("backbone",), RATE / 10),
            ("high", ("head",), RATE),
        )
    )
    phase = Phase(
        name="all", epochs=6, groups=groups, schedule=schedule, restore_best=False
    )
    with jax.enable_x64(True):
        model = new_tiny()
        load(model, {path: np.float64(a) for path, a in snapshot(model).items()})
        twin = twin_of(model)
        history = fit(
            model, quarters, Strategy(name="all", phases=(phase,)),
            batch_size=BATCH, seed=7, loss=loss,
        ).history  # fmt: skip
    expected = torch_fit(twin, quarters, 6, loss_of, torchs, by=by)
    assert [row["step"] for row in history] == [4, 8, 12, 16, 20, 24]
    for row, theirs in zip(history, expected, strict=True):
        ours = {column: row[column] for column in theirs}
        assert ours == pytest.approx(theirs, rel=1e-5), row["epoch"]
    rates = [row["lr_high"] for row in history]
    assert len(set(rates)) > 1


# Which weights go on.


@pytest.fixture(scope="module")
def first_phase(new_tiny, quarters, tmp_path_factory):
    """A phase whose rate is far too high, so that its best epoch is not its last."""
    folder = tmp_path_factory.mktemp("first") / "checkpoints"
    strategy = Strategy(name="one", phases=(head_phase(5, rate=1.0),))
    result = fit(
        new_tiny(), quarters, strategy,
        batch_size=BATCH, select="val_loss", checkpoints=folder,
    )  # fmt: skip
    assert result.best["epoch"] < 5
    return folder, result


@pytest.mark.parametrize("restore_best", [True, False])
def test_the_next_phase_begins_with_the_best_weights_or_the_last(
    new_tiny, quarters, first_phase, tmp_path, restore_best
):
    """A second phase that trains nothing shows what it began with."""
    folder, first = first_phase
    model = new_tiny()
    result = fit(
        model, quarters,
        two(
            head_phase(5, rate=1.0, restore_best=restore_best),
            head_phase(1, name="nothing", rate=0.0),
        ),
        batch_size=BATCH, select="val_loss", checkpoints=tmp_path / "checkpoints",
    )  # fmt: skip
    best = first.best["epoch"]
    assert without_timings(result.history[:5]) == without_timings(first.history)
    with open_checkpoints(folder) as saved:
        expected = saved.load_weights(best if restore_best else 5)
    with open_checkpoints(tmp_path / "checkpoints") as saved:
        assert_equal(saved.load_weights(6), expected)
    # Whatever went on, the training ends with the best of all, the earliest of equals.
    assert result.best["epoch"] == best
    assert_equal(snapshot(model), load_best_weights(folder)[0])


@pytest.mark.parametrize(
    ("select", "choose"), [("val_loss", min), ("val_accuracy", max)]
)
def test_a_phase_stops_after_its_patience_and_the_next_begins(
    new_tiny, quarters, select, choose
):
    strategy = two(
        head_phase(40, rate=1.0, patience=2), head_phase(40, name="more", patience=1)
    )
    history = fit(
        new_tiny(), quarters, strategy, batch_size=BATCH, select=select
    ).history
    names = [row["phase"] for row in history]
    assert names == sorted(names)
    for phase in strategy.phases:
        values = [row[select] for row in history if row["phase"] == phase.name]
        assert 1 <= len(values) < phase.epochs
        # The best one is as far from the end as the patience, and not farther.
        assert values.index(choose(values)) == len(values) - 1 - phase.patience


def test_an_average_of_few_steps_is_not_the_start_and_is_told(
    new_tiny, quarters, capsys
):
    """With a decay of 0.9998 alone, 20 steps would leave 99.6 % of the start."""
    strategy = Strategy(name="one", phases=(head_phase(5, rate=0.1),))
    start, plain, model = snapshot(new_tiny()), new_tiny(), new_tiny()
    fit(plain, quarters, strategy, batch_size=BATCH)
    assert "average" not in capsys.readouterr().err
    fit(model, quarters, strategy, batch_size=BATCH, ema=0.9998, select="val_loss")
    said = capsys.readouterr().err
    assert "head: The average of the weights warms up: after the 20 steps its" in said
    assert "decay is 0.69, so it is of about the last 3 steps. ema 0.9998" in said
    moved, whole = (
        np.abs(snapshot(one)["head.out.kernel"] - start["head.out.kernel"]).mean()
        for one in (model, plain)
    )
    assert moved > 0.5 * whole
    fit(model, quarters, strategy, batch_size=BATCH, ema=0.5)
    assert "average" not in capsys.readouterr().err


@pytest.mark.parametrize("ema", [0.1, 0.5, 0.9, 0.9998])
@pytest.mark.parametrize("steps", [1, 2, 5, 80, 100])
def test_what_is_told_of_an_average_is_what_it_is(ema, steps):
    count = np.arange(steps + 100_000)
    decays = np.minimum(ema, (1 + count) / (10 + count))
    np.testing.assert_allclose(average_decay(ema, count), decays, rtol=1e-6)
    said = describe_average(ema, steps)
    assert bool(said) == (decays[steps - 1] < ema)
    if said:
        reached = int(said.split("reached after ")[1].rstrip(".").replace(",", ""))
        assert decays[reached - 1] == pytest.approx(ema, rel=1e-12)
        assert decays[reached - 2] < ema * (1 - 1e-9)
        start = np.prod(decays[:steps])
        assert ("of what it began" in said) == (start >= 0.01)
        assert f"decay is {decays[steps - 1]:.3g}," in said


def test_an_average_is_validated_and_kept_while_the_raw_weights_train(
    new_tiny, twin_of, quarters, tmp_path
):
    strategy = Strategy(name="one", phases=(head_phase(3, rate=0.3),))
    plain = fit(new_tiny(), quarters, strategy, batch_size=BATCH)
    model = new_tiny()
    averaged = fit(
        model, quarters, strategy,
        batch_size=BATCH, ema=0.9, checkpoints=tmp_path / "checkpoints",
    )  # fmt: skip
    for ours, theirs in zip(averaged.history, plain.history, strict=True):
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-6)
        assert ours["val_loss"] != pytest.approx(theirs["val_loss"], rel=1e-3)
    assert_equal(snapshot(model), load_best_weights(tmp_path / "checkpoints")[0])
    inputs, labels = torch_inputs(quarters.val)
    best = averaged.history[averaged.best["epoch"] - 1]
    logits = twin_of(model).eval()(inputs)
    loss = torch.nn.functional.cross_entropy(logits, labels).item()
    assert loss == pytest.approx(best["val_loss"], rel=1e-5)
