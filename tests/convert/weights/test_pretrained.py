"""Pretrained backbones: from files, from torchvision's addresses, from the cache."""

import hashlib
import subprocess
import sys

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18, resnet34, vgg11_bn

from jaxmed.errors import InputError
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed_convert import initialize, to_torch
from jaxmed_convert.abstract_models import outline
from jaxmed_convert.weights.pretrained import prepare


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with a ResNet-18 for 7 classes, and its state dict."""
    torch.manual_seed(0)
    state_dict = resnet18(num_classes=7).state_dict()
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state_dict, path)
    return path, state_dict


def _arrays(model):
    parts = split(model)
    return parts.params | parts.stats


def _backbone_is(model, state_dict) -> bool:
    ours = to_torch(model)
    return all(
        torch.equal(ours[name], tensor)
        for name, tensor in state_dict.items()
        if not name.startswith("fc.")
    )


def test_a_file_fills_the_backbone_and_leaves_the_head(weights, tmp_path):
    path, state_dict = weights
    model = create_model("resnet18", num_classes=3, head="hidden")
    before = _arrays(model)

    started = initialize(model, f"file:{path}", cache=tmp_path)

    assert _backbone_is(model, state_dict)
    after = _arrays(model)
    heads = [name for name in before if name.startswith("head.")]
    assert len(heads) == 4
    assert all(after[name] is before[name] for name in heads)
    assert all(isinstance(array, jax.Array) for array in after.values())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert started.name == f"file:{path}"
    assert started.fingerprint == digest
    assert started.message == (
        f"Backbone resnet18 starts from file:{path} (SHA-256 {digest[:8]}…); the head "
        "is fresh. resnet18: 100 tensors converted (11,186,112 numbers), 20 "
        "num_batches_tracked ignored. The head is left out: fc.weight (7, 512), "
        "fc.bias (7,)."
    )
    assert started.scale_reason == (
        "the file does not say what its weights want: model.mean, model.std"
    )
    kept = tmp_path / "weights" / f"resnet18-{digest[:16]}.safetensors"
    assert list(kept.parent.iterdir()) == [kept]


def test_the_second_use_does_not_import_torch(weights, tmp_path):
    path, state_dict = weights
    prepare("resnet18", f"file:{path}", cache=tmp_path)
    program = """
import sys
from pathlib import Path
import jaxmed_convert
from jaxmed.models.registry import create_model
from jaxmed.models.parameters import split
model = create_model("resnet18", num_classes=3)
started = jaxmed_convert.initialize(model, sys.argv[1], cache=Path(sys.argv[2]))
assert not {"torch", "torchvision", "tensorflow"} & sys.modules.keys()
print(started.fingerprint, float(split(model).params["backbone.conv1.kernel"].sum()))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, f"file:{path}", str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    fingerprint, total = run.stdout.split()
    assert fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    expected = float(state_dict["conv1.weight"].sum())
    assert float(total) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_torchvisions_weights_come_from_the_downloads_then_from_the_cache(
    weights, tmp_path
):
    content = weights[0].read_bytes()
    name = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / name).write_bytes(content)
    # Nothing listens at this address: only the file put there by hand can serve.
    url = f"http://127.0.0.1:9/{name}"
    first = prepare("resnet18", "imagenet", cache=tmp_path, url=url)
    assert first.path == tmp_path / "weights" / "resnet18-IMAGENET1K_V1.safetensors"
    assert first.stored.source == url

    (tmp_path / "downloads" / name).unlink()
    model = create_model("resnet18", num_classes=2)
    started = initialize(model, "imagenet", cache=tmp_path)
    assert started.name == "resnet18 IMAGENET1K_V1"
    assert started.fingerprint == hashlib.sha256(content).hexdigest()
    assert _backbone_is(model, weights[1])


def test_safetensors_and_half_precision_give_the_same_backbone(weights, tmp_path):
    _, state_dict = weights
    half = {n: t.half() if t.ndim else t for n, t in state_dict.items()}
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in half.items()}},
        tmp_path / "half.pth",
    )
    save_file(half, tmp_path / "half.safetensors")
    for name in ("half.pth", "half.safetensors"):
        model = create_model("resnet18", num_classes=2)
        started = initialize(model, f"file:{tmp_path / name}", cache=tmp_path)
        assert "100 of them cast from float16 to float32" in started.message
        assert _backbone_is(model, {n: t.float() for n, t in half.items() if t.ndim})


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
def test_a_damaged_cache_file_is_converted_again(weights, tmp_path, capsys, damage):
    path, state_dict = weights
    prepared = prepare("resnet18", f"file:{path}", cache=tmp_path)
    good = prepared.path.read_bytes()
    flipped = bytearray(good)
    flipped[-1000] ^= 1
    bad = {"truncate": good[:-100], "flip": bytes(flipped), "empty": b""}
    if damage == "other":
        save_file({"a": torch.ones(2)}, prepared.path, {"converter": "1"})
    else:
        prepared.path.write_bytes(bad[damage])
    capsys.readouterr()

    model = create_model("resnet18", num_classes=2)
    initialize(model, f"file:{path}", cache=tmp_path)

    assert _backbone_is(model, state_dict)
    assert f"because {prepared.path} cannot be used: " in capsys.readouterr().err
    # It is whole again.
    repaired = prepare("resnet18", f"file:{path}", cache=tmp_path)
    assert repaired.notes == ()
    assert repaired.stored.sha256 == prepared.stored.sha256


def _message(model, weights, cache) -> str:
    before = _arrays(model)
    with pytest.raises(InputError) as caught:
        initialize(model, weights, cache=cache)
    after = _arrays(model)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not list(cache.glob("weights/*"))
    return str(caught.value)


def test_bad_input_is_a_sentence_and_leaves_nothing(weights, tmp_path):
    _, state_dict = weights
    model = create_model("resnet18", num_classes=2)
    assert "Did you mean 'imagenet'?" in _message(model, "imagnet", tmp_path)
    assert "There is no weights file" in _message(model, "file:none.pth", tmp_path)

    other = tmp_path / "other.pth"
    torch.save(resnet34().state_dict(), other)
    message = _message(model, f"file:{other}", tmp_path)
    assert "They fit resnet34 best" in message

    broken = dict(state_dict)
    broken["layer4.1.bn2.running_mean"] = torch.full((512,), float("nan"))
    torch.save(broken, other)
    message = _message(model, f"file:{other}", tmp_path)
    assert "1 with NaN or infinite values (layer4.1.bn2.running_mean)" in message

    small = create_model("resnet10_narrow", num_classes=2)
    assert "There are no ImageNet weights" in _message(small, "imagenet", tmp_path)


@pytest.mark.parametrize(
    ("channels", "stem", "sentence"),
    [
        (1, "mean", "takes 1 channels: the mean over RGB."),
        (1, "sum", "takes 1 channels: the sum over RGB."),
        (5, "mean", "takes 5 channels: their mean over RGB, × 3/n."),
    ],
)
def test_the_stem_is_adapted_and_nothing_else(
    weights, tmp_path, channels, stem, sentence
):
    path, state_dict = weights
    model = create_model("resnet18", num_classes=2, in_channels=channels)
    started = initialize(model, f"file:{path}", cache=tmp_path, stem=stem)
    ours = to_torch(model)["conv1.weight"]
    rgb = state_dict["conv1.weight"]
    expected = rgb.mean(1, keepdim=True) * 3 / channels
    if (channels, stem) == (1, "mean"):
        expected = rgb.mean(1, keepdim=True)
    assert ours.shape == (64, channels, 7, 7)
    assert torch.allclose(ours, expected.expand_as(ours), rtol=1e-5, atol=1e-7)
    rest = {n: t for n, t in state_dict.items() if n != "conv1.weight"}
    assert _backbone_is(model, rest)
    assert f"backbone.conv1.kernel {sentence}" in started.message
    # The cache keeps the RGB stem.
    rgb = create_model("resnet18", num_classes=2)
    initialize(rgb, f"file:{path}", cache=tmp_path)
    assert _backbone_is(rgb, state_dict)


def test_an_unknown_stem_is_a_sentence(tmp_path):
    model = create_model("resnet18", num_classes=2)
    with pytest.raises(InputError, match="Unknown stem for one channel 'men'"):
        initialize(model, "imagenet", cache=tmp_path, stem="men")


def test_a_vgg_with_average_pooling_leaves_torchvisions_classifier_out(
    tmp_path, monkeypatch, request
):
    # 30 units in the hidden layers, not 4096: a file of megabytes.
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 30)
    outline.cache_clear()
    request.addfinalizer(outline.cache_clear)
    theirs = create_model("vgg11", num_classes=7, seed=1)
    state_dict = to_torch(theirs)
    assert state_dict["classifier.6.weight"].shape == (7, 30)
    path = tmp_path / "vgg11.pth"
    torch.save(state_dict, path)
    for pool, left in (("own", "classifier.6"), ("average", "classifier")):
        model = create_model("vgg11", num_classes=2, pool=pool)
        started = initialize(model, f"file:{path}", cache=tmp_path)
        assert "The head is left out: " in started.message
        names = {n for n in state_dict if n.startswith(f"{left}.")}
        assert all(f"{name} (" in started.message for name in names)
        assert started.message.count("classifier.") == len(names)
        ours, given = _arrays(model), _arrays(theirs)
        backbone = [name for name in ours if name.startswith("backbone.")]
        assert len(backbone) == (20 if pool == "own" else 16)
        assert all(np.array_equal(ours[name], given[name]) for name in backbone)
    assert len(list((tmp_path / "weights").iterdir())) == 2


def test_a_vgg_with_average_pooling_loads_into_torchvisions():
    model = create_model("vgg11_bn", num_classes=4, pool="average", head="hidden")
    with torch.device("meta"):
        theirs = vgg11_bn()
    theirs.avgpool = torch.nn.AdaptiveAvgPool2d(1)
    theirs.classifier = torch.nn.Sequential(
        torch.nn.Linear(512, 256),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(256, 4),
    )
    theirs.load_state_dict(to_torch(model), strict=True, assign=True)
    images = np.random.default_rng(0).standard_normal((2, 64, 96, 3), np.float32)
    with torch.inference_mode():
        channels_first = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        expected = theirs.eval()(torch.from_numpy(channels_first)).numpy()
    error = np.abs(np.asarray(model(images)) - expected).max()
    assert error < 1e-4 * np.abs(expected).max()


def test_the_real_checkpoint_starts_a_model(test_data, tmp_path):
    path = test_data.parent / "weights" / "resnet18-imagenet-partial.pth"
    model = create_model("resnet18", num_classes=2)
    initialize(model, f"file:{path}", cache=tmp_path)
    expected = torch.load(path, weights_only=True)
    assert _backbone_is(model, expected)
    # The second time from the cache.
    again = create_model("resnet18", num_classes=2)
    initialize(again, f"file:{path}", cache=tmp_path)
    assert _backbone_is(again, expected)
