"""The Hugging Face Hub's layout: timm's folders, and a server on this machine."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from timm.models import save_for_hf

import jaxmed_convert
from jaxmed.errors import InputError
from jaxmed.models.registry import create_model
from jaxmed_convert.weights.hub import read_hub_folder

COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = timm.create_model("resnet18", pretrained=False, num_classes=3)
    network.pretrained_cfg |= {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    return network


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory) -> Path:
    """A folder as timm writes it for the Hub."""
    folder = tmp_path_factory.mktemp("hub")
    save_for_hf(network, folder, safe_serialization=True)
    return folder


def test_a_folder_of_timms_gives_weights_and_scale(network, folder, tmp_path):
    for _ in range(2):  # the second time from the cache
        model = create_model("resnet18", num_classes=2)
        said = jaxmed_convert.initialize(model, f"file:{folder}", cache=tmp_path)
        assert model.mean == (0.1, 0.2, 0.3)
        assert model.std == (0.4, 0.5, 0.6)
        assert "as its config.json says" in said.scale_reason
        tensors = jaxmed_convert.to_torch(model)
        for name, tensor in network.state_dict().items():
            if "fc." not in name and "num_batches" not in name:
                assert torch.equal(tensors[name], tensor), name


def test_folders_that_are_not_of_the_layout(folder, tmp_path):
    with pytest.raises(InputError, match=r"expected config\.json and model\.safetens"):
        read_hub_folder(tmp_path, "resnet18")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text("[")
    with pytest.raises(InputError, match="is not as the Hugging Face Hub has it"):
        read_hub_folder(tmp_path, "resnet18")
    for network, architecture, advice in (
        ("tf_efficientnet_b0", "efficientnet_b0", "the backbone tf_efficientnet_b0"),
        ("efficientnet_b0", "tf_efficientnet_b0", "the backbone efficientnet_b0"),
        ("tf_efficientnetv2_s", "efficientnet_v2_s", "timm's weights of efficientnetv"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({"architecture": network}))
        with pytest.raises(InputError, match=f"are padded otherwise than .* {advice}"):
            read_hub_folder(tmp_path, architecture)
    other = {"architecture": "gray", "pretrained_cfg": {"mean": [0.5], "std": [0.25]}}
    (tmp_path / "config.json").write_text(json.dumps(other))
    scale = read_hub_folder(tmp_path, "resnet18").scale
    assert scale == ((0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def server(folder):
    """The Hub's addresses of one model's files."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            start = "/owner/name/resolve/main/"
            path = folder / self.path.removeprefix(start)
            if not self.path.startswith(start) or not path.is_file():
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(name: str, cache: Path, **variables: str) -> str:
    """Fetches in a process of its own, as the package reads its variables once."""
    program = """
import sys
from jaxmed.errors import InputError
from jaxmed_convert.weights.hub import fetch_hub_folder
try:
    print(fetch_hub_folder(sys.argv[1]))
except InputError as error:
    print("InputError:", error)
"""
    own = {"HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1", **variables}
    run = subprocess.run(
        [sys.executable, "-c", program, name],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | own,
    )
    return run.stdout.splitlines()[-1]


def test_a_model_of_the_hub_is_fetched_once(server, folder, tmp_path):
    found = Path(fetched("owner/name", tmp_path, HF_ENDPOINT=server))
    assert found.name == COMMIT
    for name in ("config.json", "model.safetensors"):
        assert (found / name).read_bytes() == (folder / name).read_bytes()
    offline = fetched("owner/name", tmp_path, HF_ENDPOINT=server, HF_HUB_OFFLINE="1")
    assert Path(offline) == found


def test_what_cannot_be_fetched_is_a_sentence(server, tmp_path):
    for name, variables in (
        ("owner/other", {"HF_ENDPOINT": server}),
        ("owner/name", {"HF_ENDPOINT": server, "HF_HUB_OFFLINE": "1"}),
        ("owner/name", {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        ("no name", {"HF_ENDPOINT": server}),
    ):
        said = fetched(name, tmp_path / "empty", **variables)
        assert said.startswith(f"InputError: Cannot get {name} from the Hugging Face ")
        assert said.endswith("give their folder: file:FOLDER.")
