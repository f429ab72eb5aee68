"""vgg16's IMAGENET1K_FEATURES: no classifier, and images of another scale."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
import torch
from fixtures.marks import slow
from torchvision.models import get_model_weights
from torchvision.models.vgg import cfgs, make_layers

from jaxmed.errors import InputError
from jaxmed.image_stats import IMAGENET
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.registry import create_model
from jaxmed_convert import from_torch, initialize, to_torch
from jaxmed_convert.__main__ import main
from jaxmed_convert.abstract_models import outline

FEATURES = "IMAGENET1K_FEATURES"
WIDTHS = (4, 6, 8, 10, 12)
NAN = float("nan")


def save(folder, features, hidden=4096) -> str:
    """Writes a file like torchvision's, with its hash in its name.

    The classifier's tensors are NaN, and small, for nobody may look at them.
    """
    classifier = {
        f"classifier.{layer}.{kind}": torch.full((hidden,) * axes, NAN)
        for layer in (0, 3, 6)
        for kind, axes in (("weight", 2), ("bias", 1))
    }
    folder.mkdir()
    path = folder / "new.pth"
    torch.save({f"features.{n}": t for n, t in features.items()} | classifier, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    name = f"vgg16_features-amdegroot-{digest[:8]}.pth"
    path.rename(folder / name)
    return name


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """Serves a folder of files on this machine; gives its address."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def narrow(monkeypatch):
    """VGGs of few channels; gives the state dict of such a vgg16's convolutions."""
    monkeypatch.setattr("jaxmed.models.backbones.vgg.WIDTHS", WIDTHS)
    monkeypatch.setattr("jaxmed.models.backbones.vgg.HIDDEN", 8)
    outline.cache_clear()
    widths = dict(zip((64, 128, 256, 512), WIDTHS, strict=False))
    layers = [widths.get(width, width) for width in cfgs["D"]]
    layers[-4:-1] = [WIDTHS[-1]] * 3  # the fifth block, as wide as the fourth in VGG
    torch.manual_seed(0)
    yield make_layers(layers).state_dict()
    outline.cache_clear()


@pytest.fixture
def converted(narrow, tmp_path, serve, capsys):
    """A cache folder that the command line filled from the server, and what it said."""
    name = save(tmp_path / "served", narrow)
    cache = ["--cache", str(tmp_path / "cache")]
    command = ["torchvision", "vgg16", "--weights", FEATURES, "--url"]
    assert main([*command, f"{serve}/{name}", *cache]) == 0
    return tmp_path / "cache", capsys.readouterr().out


def test_the_command_line_converts_them_for_average_pooling(converted):
    cache, said = converted
    kept = cache / "weights" / f"vgg16-average-{FEATURES}.safetensors"
    assert list(kept.parent.iterdir()) == [kept]
    assert f'{FEATURES} is no classifier: it is for models with pool="average".' in said
    assert "26 tensors converted" in said
    assert str(kept) in said


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_model_gets_the_weights_and_their_scale(converted, narrow, channels):
    cache, _ = converted
    model = create_model("vgg16", num_classes=2, pool="average", in_channels=channels)
    started = initialize(model, FEATURES, cache=cache)
    assert started.name == f"vgg16 {FEATURES}"

    theirs = get_model_weights("vgg16")[FEATURES].transforms()
    mean = {1: theirs.mean[:1], 3: theirs.mean, 4: [np.mean(theirs.mean)] * 4}[channels]
    assert model.mean == pytest.approx(tuple(mean), rel=1e-12)
    assert model.std == pytest.approx((theirs.std[0],) * channels, rel=1e-12)
    assert started.scale_reason == "as published with these weights"

    ours = to_torch(model)
    stem = narrow["0.weight"]
    if channels != 3:
        # The sum, which with one channel is three times the mean.
        scale = 3 / channels
        stem = (scale * stem.mean(1, keepdim=True)).expand(-1, channels, -1, -1)
    torch.testing.assert_close(ours["features.0.weight"], stem)
    rest = [name for name in narrow if name != "0.weight"]
    assert len(rest) == 25
    assert all(torch.equal(ours[f"features.{name}"], narrow[name]) for name in rest)


def test_images_go_in_as_torchvision_has_them(converted):
    model = create_model("vgg16", num_classes=2, pool="average")
    initialize(model, FEATURES, cache=converted[0])
    image = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    ours = np.asarray(preprocessing_of(model, 224)(image))[0]
    transforms = get_model_weights("vgg16")[FEATURES].transforms(resize_size=224)
    theirs = transforms(torch.from_numpy(image[0].transpose(2, 0, 1).copy()))
    # Numbers up to 150, rounded a few times.
    np.testing.assert_allclose(ours.transpose(2, 0, 1), theirs.numpy(), atol=1e-4)


def test_other_weights_bring_the_usual_scale_back(converted, narrow, tmp_path):
    cache, _ = converted
    model = create_model("vgg16", num_classes=2, pool="average")
    initialize(model, FEATURES, cache=cache)
    own = model.mean, model.std
    # A file does not say: the scale stays what it was.
    path = tmp_path / "mine.pth"
    torch.save({f"features.{n}": t for n, t in narrow.items()}, path)
    initialize(model, f"file:{path}", cache=cache)
    assert (model.mean, model.std) == own
    # What torchvision publishes does.
    kept = cache / "weights" / f"vgg16-average-{FEATURES}.safetensors"
    kept.rename(kept.with_name("vgg16-average-IMAGENET1K_V1.safetensors"))
    initialize(model, "imagenet", cache=cache)
    assert (model.mean, model.std) == IMAGENET


def test_a_model_with_its_own_pooling_is_told_before_anything_is_fetched(
    narrow, tmp_path
):
    model = create_model("vgg16", num_classes=2)
    with pytest.raises(InputError) as caught:
        initialize(model, FEATURES, cache=tmp_path / "cache")
    assert str(caught.value) == (
        "vgg16 IMAGENET1K_FEATURES is no classifier: in the file its hidden layers are "
        'NaN. Build the model with pool="average" (in a recipe, model.pool = '
        '"average").'
    )
    assert (model.mean, model.std) == IMAGENET
    assert not (tmp_path / "cache").exists()


def test_the_file_itself_is_told_apart_from_a_damaged_one(narrow, tmp_path):
    own = to_torch(create_model("vgg16", num_classes=2))
    classifier = {n: t for n, t in own.items() if n.startswith("classifier.")}
    broken = own | {n: torch.full_like(t, NAN) for n, t in classifier.items()}
    torch.save(broken, tmp_path / "features.pth")
    model = create_model("vgg16", num_classes=2)
    for load in (
        lambda: initialize(model, f"file:{tmp_path}/features.pth", cache=tmp_path),
        lambda: from_torch(model, broken),
    ):
        with pytest.raises(InputError, match="with NaN or infinite values") as caught:
            load()
        assert 'takes the rest for a model with pool="average".' in str(caught.value)
    model = create_model("vgg16", num_classes=2, pool="average")
    initialize(model, f"file:{tmp_path}/features.pth", cache=tmp_path)
    assert torch.equal(to_torch(model)["features.0.weight"], own["features.0.weight"])


@pytest.mark.parametrize("others", [[], slow(["vgg16"])])
def test_verify_compares_up_to_the_average(
    serve, tmp_path, monkeypatch, capsys, others
):
    torch.manual_seed(0)
    name = save(tmp_path / "served", make_layers(cfgs["D"]).state_dict(), hidden=2)
    monkeypatch.setattr(
        "jaxmed_convert.weights.pretrained.address", lambda *_: f"{serve}/{name}"
    )
    options = ["--weights", FEATURES, "--image-size", "32", "--cache", str(tmp_path)]
    assert main(["verify", "vgg16", *others, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(f"within the 1e-04 allowed (weights {FEATURES}).")
    if not others:
        first, *_, pooled, last = [line.split()[:3] for line in lines[2:-1]]
        assert first == ["features.0", "Conv", "2×32×32×64"]
        assert pooled == ["(pooled)", "pool", "2×512"]
        assert last == ["classifier", "Linear", "2×1000"]
        assert len(lines[2:-1]) == 13 + 2


def test_the_list_has_them_without_an_accuracy(capsys):
    assert main(["list"]) == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if FEATURES in x]
    assert line.split() == [FEATURES, "-", "224", "px"]
