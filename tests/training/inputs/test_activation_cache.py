"""Training on cached activations: the same as running frozen layers every time."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures.marks import slow_but
from fixtures.training_results import snapshot, without_timings
from flax import nnx

from jaxmed.checkpoints.checkpoint import Checkpoints
from jaxmed.checkpoints.recovery import Position
from jaxmed.data.transforms.augmentation import Augmentation, augment_stored
from jaxmed.data.transforms.geometry import HorizontalFlip, Rotation
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.backbones.convnext import ConvNeXt
from jaxmed.models.backbones.densenet import DenseNet
from jaxmed.models.backbones.efficientnet import Blocks, EfficientNet
from jaxmed.models.backbones.resnet import BasicBlock, ResNet
from jaxmed.models.backbones.vgg import VGG
from jaxmed.models.backbones.vit import VisionTransformer
from jaxmed.models.classifier import Classifier, Head
from jaxmed.runtime.sharding import data_mesh
from jaxmed.strategies import Group, Optimizer, Phase, Strategy, create_strategy
from jaxmed.training.config import CacheSettings, TrainingConfig
from jaxmed.training.fit import fit
from jaxmed.training.inputs.activation_cache import VIEWS_KEY, fill_cache
from jaxmed.training.inputs.cache_plan import CachePlan

ON, OFF = CacheSettings(mode="float32"), CacheSettings(mode="off")
PREPARE = Preprocessing(image_size=12)
TURNED = Augmentation(ops=(HorizontalFlip(), Rotation(degrees=30.0)))
# With options, and how many phases have something to cache.
STRATEGIES = {
    "frozen": ({"epochs": 3}, 1),
    "partial": ({"epochs": 2, "momentum": 0.9, "optimizer": "sgd"}, 1),
    "two_phase": ({"head_epochs": 2, "epochs": 1, "learning_rate": 1e-3}, 1),
    "gradual_unfreezing": ({"epochs_per_stage": 1}, 2),
}


def trained(model, data, strategy, cache, **settings):
    settings = {"batch_size": 8, "seed": 3, "select": "val_loss", **settings}
    result = fit(model, data, strategy, cache=cache, **settings)
    return without_timings(result.history), snapshot(model)


def assert_close(found, expected, tolerance=1e-4):
    (history, weights), (other_history, other_weights) = found, expected
    for row, other in zip(history, other_history, strict=True):
        assert row.pop("phase") == other["phase"]
        assert row == pytest.approx(
            {k: v for k, v in other.items() if k != "phase"}, rel=tolerance
        )
    for path, array in other_weights.items():
        np.testing.assert_allclose(
            weights[path], array, rtol=tolerance, atol=1e-5, err_msg=path
        )


@pytest.fixture
def run(new_tiny, quarters):
    def fit_with(cache, name="partial", **settings):
        model = new_tiny(head="dropout")
        strategy = create_strategy(name, model, **STRATEGIES[name][0])
        return trained(model, quarters, strategy, cache, **settings)

    return fit_with


@pytest.mark.parametrize("name", slow_but(("frozen", "gradual_unfreezing"), STRATEGIES))
def test_a_strategy_ends_as_without_a_cache(name, run, capfd):
    with_cache = run(ON, name)
    said = capfd.readouterr().err
    assert said.count("are cached in memory") == STRATEGIES[name][1]
    assert_close(with_cache, run(OFF, name))


def test_the_frozen_part_stays_as_it_is_to_the_bit(new_tiny, quarters):
    before = snapshot(new_tiny())
    model = new_tiny()
    strategy = create_strategy("partial", model, epochs=2, learning_rate=0.1)
    _, after = trained(model, quarters, strategy, ON)
    changed = {path for path in before if not np.array_equal(before[path], after[path])}
    stem = {p for p in before if p.startswith(("backbone.conv1", "backbone.bn1"))}
    assert len(stem) == 5
    assert changed == before.keys() - stem


def rows(depth, *channels):
    return tuple(Blocks(False, 2, 3, 2, c, depth) for c in channels)


BACKBONES = {
    "resnet": lambda rngs: ResNet(BasicBlock, (1, 1, 1, 1), width=4, rngs=rngs),
    "densenet": lambda rngs: DenseNet((1, 1, 1, 1), width=8, growth=4, rngs=rngs),
    "efficientnet": lambda rngs: EfficientNet(
        rows(2, 8, 8, 12, 12), stem=8, last=16, norm={}, rngs=rngs
    ),
    "convnext": lambda rngs: ConvNeXt((1, 1, 1, 1), (4, 4, 6, 8), 0.0, rngs=rngs),
    "vgg": lambda rngs: VGG((1, 1, 1, 1, 1), True, pool="average", rngs=rngs),
    # Of tokens, with those that the pool takes of the blocks before the last.
    "vit": lambda rngs: VisionTransformer(
        16, 12, 3, 2, grid=3, pool="last_4_and_average", rngs=rngs
    ),
}
# tests/models/test_backbone.py compares the programs of all.
LAST = {
    "resnet": ("backbone.layer4", "head"),
    "densenet": ("backbone.features.denseblock4", "backbone.features.norm5", "head"),
    # Beside a trained stage its blocks are dropped at random.
    "efficientnet": ("head",),
    "convnext": ("backbone.features.7", "head"),
    "vgg": ("backbone.features.16", "head"),
    "vit": ("backbone.blocks.2", "backbone.norm", "head"),
}


@pytest.mark.parametrize(
    "family",
    slow_but(("vgg", "vit"), BACKBONES),
)
def test_a_family_ends_as_without_a_cache(family, quarters, monkeypatch):
    monkeypatch.setattr("jaxmed.models.backbones.vgg.WIDTHS", (4, 4, 6, 6, 8))
    optimizer = Optimizer(name="sgd", learning_rate=0.05)
    group = Group(name="last", patterns=LAST[family], optimizer=optimizer)
    phase = Phase(name="last", epochs=1, groups=(group,))

    def run(cache):
        rngs = nnx.Rngs(0)
        backbone = BACKBONES[family](rngs)
        head = Head(
            "linear", backbone.num_features, 3,
            hidden_features=1, dropout=0.0, rngs=rngs,
        )  # fmt: skip
        model = Classifier("resnet18", backbone, head)
        small = replace(quarters, image_size=32)
        strategy = Strategy(name="last", phases=(phase,))
        return trained(model, small, strategy, cache, batch_size=15)

    assert_close(run(ON), run(OFF), tolerance=1e-3)


def test_on_disk_it_ends_the_same_and_leaves_nothing(run, tmp_path):
    disk = CacheSettings(mode="float32", memory=0, folder=tmp_path / "new")
    assert_close(run(disk), run(OFF))
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.slow
def test_bfloat16_ends_near_by(run, tmp_path):
    half = run(CacheSettings(mode="bfloat16", memory=0, folder=tmp_path))
    exact = run(OFF)
    assert half[0] != exact[0]
    assert half[0][-1]["val_loss"] == pytest.approx(exact[0][-1]["val_loss"], rel=0.02)


def plan_of(data, **changes):
    plan = CachePlan(
        start_stage="layer1", shape=(6, 6, 6), dtype=jnp.float32,
        train=len(data.train), val=len(data.val), views=1,
    )  # fmt: skip
    return replace(plan, **changes)


def filled(model, data, augmentation, **changes):
    config = TrainingConfig(preprocessing=PREPARE, augmentation=augmentation, seed=5)
    mesh = data_mesh(jax.devices()[:1])
    return fill_cache(plan_of(data, **changes), model, data, config, mesh=mesh)


@pytest.mark.slow
def test_a_view_is_decided_by_seed_image_and_number(new_tiny, quarters):
    """Computed here for one image at a time."""
    inputs = filled(new_tiny(), quarters, TURNED, views=3)
    cached, count = inputs.train, len(quarters.train)
    assert cached.shape == (3 * count, 6, 6, 6)
    model = new_tiny()
    for image, view in [(0, 0), (7, 2), (29, 1)]:
        key = jax.random.fold_in(jax.random.key(5), VIEWS_KEY)
        key = jax.random.fold_in(jax.random.fold_in(key, image), view)
        turned = augment_stored(
            jnp.asarray(quarters.train.images[image : image + 1]),
            key[None],
            augmentation=TURNED,
            preprocessing=PREPARE,
        )
        expected = model.stage_input("layer1", PREPARE.normalize(turned))[0]
        np.testing.assert_allclose(
            cached[view * count + image], expected, rtol=1e-4, atol=1e-5
        )
    plain = model.stage_input("layer1", PREPARE(quarters.val.images))
    np.testing.assert_allclose(inputs.val, plain, rtol=1e-4, atol=1e-5)


def test_a_killed_training_goes_on_to_the_same_bits(run, tmp_path, monkeypatch):
    settings = {"augmentation": TURNED, "ema": 0.5}

    def run_in(folder):
        views = CacheSettings(views=2)
        return run(views, "frozen", checkpoints=tmp_path / folder, **settings)

    whole = run_in("whole")
    save = Checkpoints.save

    def save_and_die(self, position, *args, **settings):
        save(self, position, *args, **settings)
        if position == Position(epochs=1):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_in("killed")
    history, weights = run_in("killed")
    assert history == whole[0]
    for path, array in whole[1].items():
        np.testing.assert_array_equal(weights[path], array, err_msg=path)


def test_a_disk_that_refuses_is_said_and_done_without(
    run, tmp_path, monkeypatch, capfd
):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", refuse, raising=False)
    found = run(CacheSettings(mode="float32", memory=0, folder=tmp_path), "frozen")
    assert "cannot be written to (No space left on device)." in capfd.readouterr().err
    assert found[0] == run(OFF, "frozen")[0]
