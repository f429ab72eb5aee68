"""Contract 3: training means what PyTorch means."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
import torch
import torchvision
from fixtures.marks import slow
from fixtures.tiny_network import tiny
from fixtures.torch_twin import Twin
from flax import nnx
from timm.models.vision_transformer import VisionTransformer
from torchvision.models import convnext, efficientnet

from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.transforms.augmentation import Augmentation
from jaxmed.data.transforms.geometry import HorizontalFlip, QuarterTurns
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.backbones import vit
from jaxmed.models.backbones.convnext import ConvNeXt
from jaxmed.models.backbones.efficientnet import Blocks, EfficientNet
from jaxmed.models.backbones.resnet import BasicBlock, ResNet
from jaxmed.models.classifier import Classifier, Head
from jaxmed.models.parameters import load, split
from jaxmed.models.registry import create_model
from jaxmed.runtime.sharding import data_mesh, replicate
from jaxmed.strategies import Group, Optimizer, Phase, create_strategy
from jaxmed.training.state import Images, StepPlan, begin_phase
from jaxmed.training.step import compiled_train_step
from jaxmed_convert import from_torch, to_torch

SIZE = 96
PREPARE = Preprocessing(image_size=96)
STEPS = 10


def make_batches(rng, count, batch):
    """Batches of distinct images; the last ones are short, as a data set's are."""
    images = rng.integers(0, 256, (count * batch, SIZE, SIZE, 3), dtype=np.uint8)
    labels = rng.integers(0, 4, count * batch).astype(np.int32)
    indices = rng.permutation(count * batch).astype(np.int32).reshape(count, batch)
    masks = np.ones((count, batch), np.float32)
    masks[count // 2 :: 4, 5:] = 0
    return Images(images, labels), indices, masks


def train(model, phase, data, indices, masks, prepare=PREPARE, **more):
    mesh = data_mesh(jax.devices()[:1])
    plan = StepPlan(phase=phase, preprocessing=prepare, task="multiclass", **more)
    definition, state, frozen = begin_phase(model, plan)
    state, frozen = replicate(state, mesh), replicate(frozen, mesh)
    step = compiled_train_step(definition, plan, mesh)
    images, key = replicate(data, mesh), jax.random.key(0)
    windows = (plan.accumulate, -1)
    for rows, mask in zip(indices, masks, strict=True):
        state = step(
            state,
            frozen=frozen,
            images=images,
            indices=rows.reshape(windows),
            mask=mask.reshape(windows),
            key=key,
        )
    weights = state.params | frozen.params | state.stats | frozen.stats
    load(model, jax.device_get(weights))
    return state


def exact(images):
    """Preprocessing whose every result is exact in float32.

    So that both programs get the same input to the last bit, however each orders
    its arithmetic: ten steps from random weights magnify one rounding of the input
    ten-thousandfold, in torch and here alike.
    """
    return images.astype(np.float32) / 64 - 2


def train_torch(model, optimizer, data, indices, masks, prepare):
    model.train()
    dtype = next(model.parameters()).dtype
    for rows, mask in zip(indices, masks, strict=True):
        chosen = rows[mask == 1]
        optimizer.zero_grad()
        inputs = np.asarray(prepare(data.images[chosen])).transpose(0, 3, 1, 2)
        logits = model(torch.from_numpy(inputs.copy()).to(dtype))
        labels = torch.from_numpy(data.labels[chosen]).long()
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()


def everything(optimizer):
    group = Group(name="all", patterns=("backbone", "head"), optimizer=optimizer)
    return Phase(name="all", epochs=1, groups=(group,))


def largest_difference(trained, expected, before):
    """The largest relative difference of a tensor, ‖ours - torch's‖ / ‖torch's‖."""
    worst = {}
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        assert not torch.equal(before[name], tensor), f"torch left {name} alone"
        worst[name] = float((trained[name] - tensor).norm() / tensor.norm())
    return max(worst.values()), sorted(worst.items(), key=lambda item: -item[1])[:5]


def classifier(architecture, backbone):
    head = Head(
        "linear", backbone.num_features, 4,
        hidden_features=1, dropout=0, rngs=nnx.Rngs(0),
    )  # fmt: skip
    return Classifier(architecture, backbone, head)


def short_resnet():
    """ResNet-18 with one block a stage, at torchvision's widths: BatchNorm."""
    blocks = torchvision.models.resnet.BasicBlock
    reference = torchvision.models.ResNet(blocks, [1, 1, 1, 1], num_classes=4)
    backbone = ResNet(BasicBlock, (1, 1, 1, 1), rngs=nnx.Rngs(0))
    return reference, classifier("resnet18", backbone)


def short_convnext():
    """A small ConvNeXt, without stochastic depth: LayerNorm.

    Its blocks have branches as large as their shortcuts. With the 1e-6 that they
    begin with, ten steps would hardly show what the branches do.
    """
    depths, widths = (1, 1, 2, 1), (16, 24, 32, 48)
    settings = [
        convnext.CNBlockConfig(width, after, depth)
        for width, after, depth in zip(widths, (*widths[1:], None), depths, strict=True)
    ]
    reference = torchvision.models.ConvNeXt(settings, layer_scale=1.0, num_classes=4)
    backbone = ConvNeXt(depths, widths, 0.0, rngs=nnx.Rngs(0))
    return reference, classifier("convnext_tiny", backbone)


def short_efficientnet():
    """A small EfficientNet with both kinds of blocks, without stochastic depth.

    Its BatchNorm has the epsilon and momentum of EfficientNet-B5 to B7. What it adds
    to a block's output, the next block's normalization takes out again: biases and
    running means that began at zero would stay rounding errors, so they do not.
    """
    rows = (
        Blocks(False, 1, 3, 1, 16, 1),
        Blocks(True, 4, 3, 2, 24, 2),
        Blocks(False, 4, 5, 2, 32, 2),
        Blocks(False, 4, 3, 2, 40, 1),
        Blocks(False, 4, 3, 2, 48, 1),
    )
    settings, channels = [], 16
    for row in rows:
        kind = (
            efficientnet.FusedMBConvConfig if row.fused else efficientnet.MBConvConfig
        )
        shape = (row.expansion, row.size, row.stride, channels, row.out_channels)
        settings.append(kind(*shape, row.depth))
        channels = row.out_channels
    reference = torchvision.models.EfficientNet(
        settings, dropout=0.0, stochastic_depth_prob=0.0, num_classes=4,
        norm_layer=partial(torch.nn.BatchNorm2d, eps=1e-3, momentum=0.01),
    )  # fmt: skip
    for module in reference.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            torch.nn.init.normal_(module.bias, std=0.2)
            torch.nn.init.normal_(module.running_mean, std=0.2)
    backbone = EfficientNet(
        rows, stem=16, last=4 * 48, norm={"epsilon": 1e-3, "momentum": 0.01},
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    for _, module in nnx.iter_modules(backbone):
        if hasattr(module, "drop"):
            module.drop = 0.0
    return reference, classifier("efficientnet_b5", backbone)


def short_vit():
    """A vision transformer of two blocks, with layer scale of ones: LayerNorm, GELU."""
    settings = {"width": 24, "depth": 2, "heads": 2, "layer_scale": 1.0}
    reference = VisionTransformer(
        img_size=SIZE, patch_size=16, embed_dim=24, depth=2, num_heads=2,
        init_values=1.0, num_classes=4,
    )  # fmt: skip
    backbone = vit.VisionTransformer(16, **settings, grid=6, rngs=nnx.Rngs(0))
    return reference, classifier("vit_small_patch16_224", backbone)


def tiny_pair():
    model = tiny(4)
    twin = Twin(4)
    twin.load_state_dict(to_torch(model))
    return twin, model


def compare_training(settings, torch_class, reference, model, batches, prepare):
    """Trains both, and returns the largest difference and where it is."""
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    settings = dict(settings)
    phase = everything(Optimizer(**settings))
    name, rate = settings.pop("name"), settings.pop("learning_rate")
    assert name == torch_class.__name__.lower()
    optimizer = torch_class(reference.parameters(), lr=rate, **settings)
    train_torch(reference, optimizer, *batches, prepare)
    train(model, phase, *batches, prepare)
    trained = to_torch(model)
    for path, parameter in reference.named_parameters():
        assert trained[path].dtype == parameter.dtype
    return largest_difference(trained, reference.state_dict(), before)


SGD = (
    {"name": "sgd", "learning_rate": 1e-3, "momentum": 0.9, "weight_decay": 1e-2},
    torch.optim.SGD,
)
ADAM = (
    {"name": "adam", "learning_rate": 1e-4, "weight_decay": 1e-2},
    torch.optim.Adam,
)
ADAMW = (
    {"name": "adamw", "learning_rate": 1e-4, "weight_decay": 0.1},
    torch.optim.AdamW,
)


@pytest.mark.parametrize(
    ("build", "optimizer"),
    [
        pytest.param(tiny_pair, SGD, id="tiny-sgd"),
        pytest.param(tiny_pair, ADAMW, id="tiny-adamw"),
        pytest.param(short_resnet, ADAM, id="resnet-adam"),
        slow(short_vit, SGD, id="vit-sgd"),
        pytest.param(short_vit, ADAMW, id="vit-adamw"),
        slow(short_resnet, SGD, id="resnet-sgd"),
        slow(short_resnet, ADAMW, id="resnet-adamw"),
        slow(short_convnext, SGD, id="convnext-sgd"),
        slow(short_convnext, ADAMW, id="convnext-adamw"),
        slow(short_efficientnet, SGD, id="efficientnet-sgd"),
        slow(short_efficientnet, ADAMW, id="efficientnet-adamw"),
    ],
)
def test_ten_steps_give_torchs_weights(build, optimizer):
    """In double precision, where both programs must be the same function."""
    torch.manual_seed(0)
    reference, model = build()
    from_torch(model, reference.state_dict())
    batches = make_batches(np.random.default_rng(1), STEPS, 8)
    with jax.enable_x64(True):
        load(model, {path: np.float64(a) for path, a in snapshot(model).items()})
        largest, where = compare_training(
            *optimizer, reference.double(), model, batches, exact
        )
    assert largest < 1e-6, where


@pytest.mark.slow
def test_ten_steps_on_x_rays_give_torchs_weights(test_data):
    """In single precision, from trained weights and on real images."""
    path = test_data.parent / "weights" / "resnet18-imagenet-partial.pth"
    reference = torchvision.models.resnet18()
    reference.load_state_dict(torch.load(path, weights_only=True))
    model = create_model("resnet18", num_classes=1000)
    from_torch(model, reference.state_dict())
    chest = load_dataset(f"npz:{test_data}/medmnist/pneumoniamnist_reassembled.npz")
    data = Images(chest.train.images[:160], chest.train.labels[:160])
    indices = np.arange(160, dtype=np.int32).reshape(STEPS, 16)
    masks = np.ones(indices.shape, np.float32)
    largest, where = compare_training(
        {"name": "adam", "learning_rate": 1e-5, "weight_decay": 1e-2},
        torch.optim.Adam,
        reference,
        model,
        (data, indices, masks),
        PREPARE,
    )
    assert largest < 1e-3, where


def snapshot(model):
    parts = split(model)
    return {p: np.array(a) for p, a in (parts.params | parts.stats).items()}


def test_updating_statistics_are_torchs_of_frozen_weights_in_train_mode():
    """The tutorials' trap, by choice: weights frozen, `model.train()` called."""
    torch.manual_seed(0)
    reference = torchvision.models.resnet18(num_classes=4)
    model = create_model("resnet18", num_classes=4)
    from_torch(model, reference.state_dict())
    before = {name: value.clone() for name, value in reference.state_dict().items()}
    for parameter in reference.parameters():
        parameter.requires_grad = False
    for parameter in reference.fc.parameters():
        parameter.requires_grad = True
    batches = make_batches(np.random.default_rng(1), 2, 8)
    optimizer = torch.optim.Adam(reference.fc.parameters(), lr=1e-3)
    train_torch(reference, optimizer, *batches, exact)
    phase = create_strategy("frozen", model, batch_norm="train").phases[0]
    train(model, phase, *batches, exact)
    trained = to_torch(model)
    for name, tensor in reference.state_dict().items():
        if "running" in name:
            assert not torch.equal(tensor, before[name])
            torch.testing.assert_close(trained[name], tensor, rtol=1e-3, atol=1e-5)
        elif name.startswith("fc"):
            torch.testing.assert_close(trained[name], tensor, rtol=1e-3, atol=1e-4)
        elif not name.endswith("num_batches_tracked"):
            assert torch.equal(trained[name], before[name]), name


def test_ten_steps_of_sharpness_aware_minimization_are_those_of_algorithm_1():
    """Foret et al.: an ascent of length rho, and torch's step from where it began."""
    torch.manual_seed(0)
    reference, model = tiny_pair()
    reference.double().train()
    data, indices, masks = make_batches(np.random.default_rng(1), STEPS, 8)
    phase = replace(everything(Optimizer(**SGD[0])), sam_rho=0.05)
    with jax.enable_x64(True):
        load(model, {path: np.float64(a) for path, a in snapshot(model).items()})
        train(model, phase, data, indices, masks, exact)
        trained = to_torch(model)
    settings = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-2}
    optimizer = torch.optim.SGD(reference.parameters(), **settings)
    norms = [m for m in reference.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for rows, mask in zip(indices, masks, strict=True):
        chosen = rows[mask == 1]
        images = exact(data.images[chosen]).transpose(0, 3, 1, 2)
        inputs = torch.from_numpy(images.copy()).double()
        labels = torch.from_numpy(data.labels[chosen]).long()

        def differentiate(inputs=inputs, labels=labels):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(reference(inputs), labels).backward()

        differentiate()
        parameters = list(reference.parameters())
        slopes = [parameter.grad.clone() for parameter in parameters]
        length = 0.05 / torch.stack([s.norm() for s in slopes]).norm()
        kept = [(n.running_mean.clone(), n.running_var.clone()) for n in norms]
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.add_(length * slope)
        differentiate()
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                parameter.sub_(length * slope)
        for norm, (mean, var) in zip(norms, kept, strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(var)
        optimizer.step()
    for name, tensor in reference.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            difference = (trained[name] - tensor).norm() / tensor.norm()
            assert difference < 1e-6, name


def test_padding_changes_nothing():
    """A short batch and the same batch filled up give the same step."""
    data, indices, masks = make_batches(np.random.default_rng(0), 1, 8)
    masks[0, 5:] = 0
    results = []
    for rows, mask in ((indices, masks), (indices[:, :5], masks[:, :5])):
        model = create_model("resnet10_narrow", num_classes=4)
        # Adam's first step divides by the gradient, and so enlarges its rounding.
        optimizer = Optimizer(name="sgd", learning_rate=1e-3)
        train(model, everything(optimizer), data, rows, mask)
        results.append(snapshot(model))
    for path, array in results[0].items():
        np.testing.assert_allclose(array, results[1][path], rtol=1e-4, atol=1e-6)


def test_dropout_depends_on_step_and_key_only():
    data, indices, masks = make_batches(np.random.default_rng(0), 2, 8)
    first, second = (
        create_model("resnet10_narrow", num_classes=4, head="dropout") for _ in range(2)
    )
    phase = create_strategy("frozen", first).phases[0]
    for model in (first, second):
        train(model, phase, data, indices, masks)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(
            snapshot(first).values(), snapshot(second).values(), strict=True
        )
    )


@pytest.mark.slow
def test_a_frozen_backbone_has_no_stochastic_depth():
    """Two keys: the frozen features are the same, those of a trained one are not."""
    data, indices, masks = make_batches(np.random.default_rng(0), 1, 8)
    model = create_model("efficientnet_b0", num_classes=4)
    mesh = data_mesh(jax.devices()[:1])
    images = replicate(data, mesh)
    losses = {}
    for name in ("frozen", "full"):
        plan = StepPlan(
            phase=create_strategy(name, model).phases[0],
            preprocessing=PREPARE,
            task="multiclass",
        )
        definition, start, frozen = begin_phase(model, plan)
        step = compiled_train_step(definition, plan, mesh)
        losses[name] = {
            float(
                step(
                    replicate(start, mesh),
                    frozen=replicate(frozen, mesh),
                    images=images,
                    indices=indices[:1],
                    mask=masks[:1],
                    key=jax.random.key(seed),
                ).totals["loss"]
            )
            for seed in (0, 1)
        }
    assert len(losses["frozen"]) == 1
    assert len(losses["full"]) == 2


@pytest.mark.slow
def test_a_step_with_augmentation_is_one_on_augmented_images():
    """Flips and turns keep bytes bytes, so that they can be made beforehand."""
    rng = np.random.default_rng(3)
    rows = np.arange(6, dtype=np.int32)
    data = Images(
        rng.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8), rows.astype(np.int32) % 4
    )
    turned = Augmentation(ops=(HorizontalFlip(), QuarterTurns()))
    # What `train` steps with: its key, at step 0, of the only batch.
    (key,) = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 1)
    by_hand = np.asarray(turned(data.images, jax.random.fold_in(key, 2)))
    assert (by_hand != data.images).any(axis=(1, 2, 3)).sum() > 2

    def weights(data, **more):
        model = create_model("resnet10_narrow", num_classes=4)
        phase = everything(Optimizer(name="sgd", learning_rate=0.1))
        prepare = Preprocessing(image_size=32)
        mask = np.ones((1, 6), np.float32)
        train(model, phase, data, rows[None], mask, prepare, **more)
        parts = split(model)
        return jax.device_get(parts.params | parts.stats)

    found = weights(data, augmentation=turned)
    expected = weights(Images(by_hand.astype(np.uint8), data.labels))
    plain = weights(data)
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=1e-4, atol=1e-6)
    assert any(abs(found[path] - plain[path]).max() > 1e-3 for path in plain)
