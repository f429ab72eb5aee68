"""Folders for the Hugging Face Hub: opened by timm and by jaxmed, parsed, pushed."""

import base64
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax.numpy as jnp
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard

import jaxmed
import jaxmed_convert
from jaxmed.config.schema import ModelConfig
from jaxmed.errors import InputError
from jaxmed.evaluation import Predictions
from jaxmed.export import export_model, hub_folder
from jaxmed.inference.preprocessing import preprocessing_of
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.parameters import split
from jaxmed.models.registry import create_model
from jaxmed.runs.environment import describe_environment
from jaxmed.runs.trained_model import TrainedModel
from jaxmed_convert.export.hub_tensors import to_hub
from jaxmed_convert.verify.parity import TOLERANCE
from jaxmed_convert.weights.image_scales import torch_scale

SLOW = pytest.mark.slow


def trained_model(settings: ModelConfig, folder, image_size=32) -> TrainedModel:
    """A network with random weights, and the report of random predictions."""
    rng = np.random.default_rng(0)
    arrays, labels = {}, np.arange(12)[:, None] % 3
    for name in ("train", "val", "test"):
        images = rng.integers(0, 256, (12, 28, 28, 3), np.uint8)
        arrays |= {f"{name}_images": images, f"{name}_labels": labels}
    np.savez(folder / "of_jane_doe.npz", **arrays)
    data = jaxmed.load_dataset(f"npz:{folder}/of_jane_doe.npz", image_size=image_size)
    model = create_model(**settings.arguments(3), seed=1)
    model.mean, model.std = (
        (0.25,) * settings.in_channels,
        (0.5,) * settings.in_channels,
    )
    set_training_norms(model, ())
    probs = rng.dirichlet(np.ones(3), 12)
    predictions = [
        Predictions(
            split=name,
            ids=tuple(map(str, range(12))),
            labels=labels[:, 0],
            probs=probs,
            class_names=data.class_names,
            task="multiclass",
        )
        for name in ("val", "test")
    ]
    preprocessing = preprocessing_of(model, image_size, data.resizing, data.window)
    return TrainedModel(
        model=model,
        preprocessing=preprocessing,
        metrics=jaxmed.evaluate(*predictions, resamples=50),
        environment=describe_environment(data, model, preprocessing),
        name="cells",
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A ResNet-18 with dropout, and its folder."""
    folder = tmp_path_factory.mktemp("hub")
    trained = trained_model(ModelConfig(backbone="resnet18", head="dropout"), folder)
    (folder / "hub").mkdir()  # an earlier one, which is replaced
    (folder / "hub" / "old").touch()
    export_model(trained, ["hub"], folder)
    assert {path.name for path in folder.iterdir()} == {
        "hub",
        "model.json",
        "of_jane_doe.npz",
    }
    return trained, folder / "hub"


def check_in_timm(trained, folder):
    """Compares logits, and what the images are normalized by."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    wanted = timm.data.resolve_model_data_config(model)
    scale = tuple(trained.model.mean), tuple(trained.model.std)
    assert (tuple(wanted["mean"]), tuple(wanted["std"])) == scale
    side, channels = trained.preprocessing.image_size, trained.model.in_channels
    assert tuple(wanted["input_size"]) == (channels, side, side)
    shape = (2, side, side, channels)
    images = np.random.default_rng(1).standard_normal(shape, np.float32)
    ours = np.asarray(trained.model(jnp.asarray(images)))
    with torch.inference_mode():
        seen = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        theirs = model(seen).numpy()
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def check_as_starting_weights(trained, folder, cache):
    """Compares the backbone, bit by bit, with what `file:FOLDER` gives."""
    model = trained.model
    other = create_model(
        model.architecture,
        num_classes=5,
        in_channels=model.in_channels,
        pool=model.pool,
        seed=7,
    )
    started = jaxmed_convert.initialize(other, f"file:{folder}", cache=cache)
    assert started.scale_reason == "as its config.json says"
    assert (other.mean, other.std) == (model.mean, model.std)
    ours, theirs = (split(m).params | split(m).stats for m in (model, other))
    for path, array in ours.items():
        if path.startswith("backbone."):
            np.testing.assert_array_equal(array, theirs[path], err_msg=path)


def test_timm_and_jaxmed_open_a_folder(exported, tmp_path):
    trained, folder = exported
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    check_in_timm(trained, folder)
    check_as_starting_weights(trained, folder, tmp_path)


@pytest.mark.parametrize(
    "settings",
    [
        ModelConfig(backbone="resnet10_narrow", head="hidden", hidden_features=8),
        pytest.param(ModelConfig(backbone="vgg11", pool="average"), marks=SLOW),
    ],
    ids=lambda settings: settings.backbone,
)
def test_a_network_that_timm_lacks_has_torchvisions_names(
    settings, tmp_path, monkeypatch
):
    trained = trained_model(settings, tmp_path)
    facts = export_model(trained, ["hub"], tmp_path)
    check_as_starting_weights(trained, tmp_path / "hub", tmp_path)
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec("\n".join(facts["hub"]["load"]), names)
    for name in ("params", "stats"):
        ours, theirs = (
            getattr(split(m), name) for m in (trained.model, names["model"])
        )
        assert ours.keys() == theirs.keys()
        for path, array in ours.items():
            np.testing.assert_array_equal(array, theirs[path])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "side"),
    [
        (ModelConfig(backbone="resnext50_32x4d", in_channels=1), 32),
        (ModelConfig(backbone="densenet121", in_channels=1), 32),
        (ModelConfig(backbone="mobilenet_v2", head="dropout"), 32),
        (ModelConfig(backbone="efficientnet_b5"), 32),
        (ModelConfig(backbone="efficientnet_v2_s"), 32),
        (ModelConfig(backbone="efficientnet_lite0", head="dropout"), 33),
        (ModelConfig(backbone="convnext_tiny", head="dropout"), 64),
        (ModelConfig(backbone="inception_v3"), 96),
    ],
    ids=lambda value: getattr(value, "backbone", None),
)
def test_other_families_in_timm(settings, side, tmp_path):
    trained = trained_model(settings, tmp_path, side)
    export_model(trained, ["hub"], tmp_path)
    check_in_timm(trained, tmp_path / "hub")
    check_as_starting_weights(trained, tmp_path / "hub", tmp_path)


@pytest.mark.parametrize(
    "architecture",
    ["mobilenet_v2", "efficientnet_lite0", "tf_efficientnet_b0", "convnext_tiny"],
)
def test_names_are_timms(architecture):
    found = to_hub(create_model(architecture, num_classes=3, head="dropout"))
    with torch.device("meta"):
        model = timm.create_model(found.architecture, num_classes=3, **found.arguments)
    shapes = {name: tuple(t.shape) for name, t in model.state_dict().items()}
    assert {name: t.shape for name, t in found.tensors.items()} == shapes
    assert getattr(model.get_submodule(found.classifier), "out_features", 0) == 3


def test_an_inception_that_rescales_its_images_says_so_by_their_scale():
    model = create_model("inception_v3", num_classes=3)
    model.backbone.transform_input.on[...] = jnp.ones(())  # pyright: ignore
    mean, std = torch_scale(model)
    np.testing.assert_allclose(mean, 0.5, atol=1e-3)
    np.testing.assert_allclose(std, 0.5, atol=1e-3)


def test_the_hub_accepts_the_cards_front_matter(exported):
    trained, folder = exported
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "timm"
    assert card.data.pipeline_tag == "image-classification"
    (auroc, *_) = card.data.eval_results
    assert auroc.metric_type == "roc_auc"
    assert auroc.metric_value == trained.metrics["test"]["auroc"]["value"]
    assert 'timm.create_model("hf-hub:OWNER/NAME", pretrained=True)' in card.text
    assert "Not for clinical use" in card.text
    # A path of the source may name people.
    for path in folder.iterdir():
        assert b"jane" not in path.read_bytes()


class Uploads(BaseHTTPRequestHandler):
    """As much of the Hub's interface as an upload takes."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies[self.path] = body  # pyright: ignore
        if self.headers.get("Authorization") != "Bearer hf_ours":
            return self.answer(401, {"error": "Invalid username or password."})
        model = f"{self.server.address}/owner/name"  # pyright: ignore
        if self.path.endswith("/create"):
            return self.answer(200, {"url": model, "name": "owner/name"})
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            regular = {"uploadMode": "regular", "shouldIgnore": False, "oid": None}
            return self.answer(
                200, {"files": [{"path": f["path"]} | regular for f in files]}
            )
        commit = {"commitUrl": f"{model}/commit/{'0' * 40}", "commitOid": "0" * 40}
        return self.answer(200, commit | {"success": True})

    def do_GET(self) -> None:
        self.answer(200, {"id": "owner/name", "sha": "0" * 40, "siblings": []})

    def answer(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def uploads():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Uploads)
    server.bodies = {}  # pyright: ignore
    server.address = f"http://127.0.0.1:{server.server_port}"  # pyright: ignore
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


PUSH = """
import sys
from pathlib import Path
from jaxmed.errors import InputError
from jaxmed.export.hub_folder import push
try:
    print(push(Path(sys.argv[1]), "owner/name"))
except InputError as error:
    print("InputError:", error)
"""


def pushed(folder, server, token: str, cache) -> str:
    """Pushes in a process of its own, as the package reads its variables once."""
    variables = {
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_ENDPOINT": server.address,
        "HF_TOKEN": token,
    }
    run = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | variables,
    )
    return run.stdout.splitlines()[-1]


def test_a_push_makes_a_private_model_and_uploads_all_files(
    exported, uploads, tmp_path
):
    _, folder = exported
    small = tmp_path / "small"
    small.mkdir()
    for name in ("config.json", "README.md"):
        (small / name).write_bytes((folder / name).read_bytes())
    said = pushed(small, uploads, "hf_ours", tmp_path)
    assert said == f"{uploads.address}/owner/name"
    created = json.loads(uploads.bodies["/api/repos/create"])
    private = created.get("private", created.get("visibility") == "private")
    assert (created["name"], private) == ("name", True)
    (commit,) = (body for path, body in uploads.bodies.items() if "/commit/" in path)
    lines = [json.loads(line)["value"] for line in commit.splitlines()[1:]]
    sent = {line["path"]: base64.b64decode(line["content"]) for line in lines}
    assert sent == {path.name: path.read_bytes() for path in small.iterdir()}


def test_a_push_that_is_refused_is_a_sentence(exported, uploads, tmp_path):
    said = pushed(exported[1], uploads, "hf_theirs", tmp_path)
    assert said.startswith("InputError: Cannot upload ")
    assert "to owner/name on the Hugging Face Hub: " in said
    assert said.endswith(f"`hf upload owner/name {exported[1]}`.")


def test_a_name_without_an_owner_is_refused():
    with pytest.raises(InputError, match="owner/name; got 'name'"):
        hub_folder.check_push("name")
