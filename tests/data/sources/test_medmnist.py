"""`medmnist:NAME` against a real HTTP server on this machine."""

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from fixtures.marks import slow

import jaxmed
from jaxmed.data.sources.medmnist_catalog import CatalogEntry, Download, read_catalog
from jaxmed.data.sources.registry import load_dataset
from jaxmed.errors import InputError
from jaxmed.runtime import download as downloads
from jaxmed.strategies import create_strategy


@contextmanager
def serving(files):
    """Serves {path: bytes, or (bytes, announced length)}; yields address, requests."""
    requests = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            if self.path not in files:
                self.send_error(404)
                return
            content, length = files[self.path], None
            if isinstance(content, tuple):
                content, length = content
            self.send_response(200)
            self.send_header("Content-Length", str(length or len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def entry_of(address, content, *, stem="toymnist"):
    md5 = hashlib.md5(content).hexdigest()
    return CatalogEntry(
        name="toymnist",
        task="multiclass",
        class_names=("red", "green", "blue"),
        counts={"train": 9, "val": 3, "test": 3},
        channels=3,
        license="CC0",
        files={stem: Download(url=f"{address}/{stem}.npz", md5=md5)},
    )


@pytest.fixture
def load(monkeypatch):
    """Loads a data set of an entry that the catalog has not, or not with this URL."""

    def load(stem, cache, entry, **options):
        monkeypatch.setitem(read_catalog(), entry.name, entry)
        return load_dataset(f"medmnist:{stem}", cache=cache, **options)

    return load


@pytest.fixture(autouse=True)
def no_proxy_and_no_pauses(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "PAUSE", 0.0)


@pytest.fixture
def content(tmp_path) -> bytes:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 9), ("val", 3), ("test", 3)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[:, None] % 3
    path = tmp_path / "made.npz"
    np.savez_compressed(path, **arrays)
    return path.read_bytes()


@pytest.mark.parametrize("stem", ["toymnist", "toymnist_224"])
def test_downloads_once_and_reads(tmp_path, content, capsys, load, stem):
    with serving({f"/{stem}.npz": content}) as (address, requests):
        entry = entry_of(address, content, stem=stem)
        data = load(stem, tmp_path / "cache", entry)
        again = load(stem.upper(), tmp_path / "cache", entry)
    assert requests == [f"/{stem}.npz"]
    assert f"Downloading {stem}.npz 1/1" in capsys.readouterr().err
    assert (data.name, data.source) == (stem, f"medmnist:{stem}")
    assert data.class_names == ("red", "green", "blue")
    assert len(data.train) == 9
    assert data.fingerprint == again.fingerprint
    kept = tmp_path / "cache" / "medmnist" / f"{stem}.npz"
    assert kept.read_bytes() == content
    assert list(kept.parent.iterdir()) == [kept]


def test_official_file_passes_the_official_checksum(tmp_path, test_data, load):
    official = read_catalog()["breastmnist"]
    content = (test_data / "medmnist" / "breastmnist.npz").read_bytes()
    with serving({"/breastmnist.npz": content}) as (address, _):
        md5 = official.files["breastmnist"].md5
        files = {"breastmnist": Download(url=f"{address}/breastmnist.npz", md5=md5)}
        data = load("breastmnist", tmp_path, replace(official, files=files))
    assert data.task == "binary"
    assert data.class_names == ("malignant", "normal, benign")
    counts = {name: len(split) for name, split in data.splits.items()}
    assert counts == official.counts
    # The cached file now serves the public entry, without any server.
    public = load("breastmnist", tmp_path, official, image_size=64)
    assert public.fingerprint == data.fingerprint
    assert public.image_size == 64


@pytest.mark.parametrize("name", ["breast", slow("blood"), slow("retina"), "chest"])
def test_every_task_goes_from_the_file_to_the_numbers(tmp_path, load, name):
    official = read_catalog()[f"{name}mnist"]
    classes = len(official.class_names)
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 4 * classes), ("val", classes), ("test", classes)):
        shape = (count, 28, 28, 3)[: 3 if official.channels == 1 else 4]
        arrays[f"{split}_images"] = rng.integers(0, 256, shape, np.uint8)
        labels = np.arange(count)[:, None] % classes
        if official.task == "multilabel":
            labels = labels == np.arange(classes)
        arrays[f"{split}_labels"] = labels.astype(np.uint8)
    path = tmp_path / "medmnist" / f"{official.name}.npz"
    path.parent.mkdir()
    np.savez(path, **arrays)
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    files = {official.name: Download(url="http://127.0.0.1:9", md5=md5)}
    entry = replace(official, files=files)
    data = load(official.name, tmp_path, entry, image_size=32)
    assert data.class_names == official.class_names
    model = jaxmed.create_model("resnet10_narrow", num_classes=classes)
    strategy = create_strategy("frozen", model, epochs=1)
    jaxmed.fit(model, data, strategy, batch_size=16)
    val, test = (jaxmed.predict_split(model, data, name) for name in ("val", "test"))
    report = jaxmed.evaluate(val, test, resamples=100)
    assert val.task == official.task
    assert 0 <= report["test"]["auroc"]["value"] <= 1
    assert list(report["per_class"]["test"]) == list(official.class_names)


@pytest.mark.parametrize("kind", ["missing", "wrong", "cut", "no server"])
def test_a_failed_download_says_how_to_get_the_file(tmp_path, content, load, kind):
    """Contract 9: the file, where to get it, where to put it."""
    cache, half = tmp_path / "cache", len(content) // 2
    served = {
        "wrong": {"/toymnist.npz": content[:-1] + b"!"},
        "cut": {"/toymnist.npz": (content[:half], len(content))},
    }
    sentence = {
        "missing": "the server answered 404 Not Found",
        "wrong": "its MD5 is .* instead of",
        "cut": f"cut after {half:,} of {len(content):,} bytes.* are kept: try again",
        "no server": "Connection refused",
    }
    with serving(served.get(kind, {})) as (address, _):
        entry = entry_of(
            "http://127.0.0.1:9" if kind == "no server" else address, content
        )
        with pytest.raises(InputError, match=sentence[kind]) as caught:
            load("toymnist", cache, entry)
    url = entry.files["toymnist"].url
    path = cache / "medmnist" / "toymnist.npz"
    assert f"ownload toymnist.npz from {url} yourself and put it at {path}" in str(
        caught.value
    )
    left = [file.name for file in cache.rglob("*") if file.is_file()]
    assert left == (["toymnist.npz.part"] if kind == "cut" else [])


def test_damaged_cached_file_is_explained_and_kept(tmp_path, content, load):
    path = tmp_path / "medmnist" / "toymnist.npz"
    path.parent.mkdir()
    damaged = content[:100] + b"!" + content[101:]
    path.write_bytes(damaged)
    digest, expected = (hashlib.md5(x).hexdigest() for x in (damaged, content))
    entry = entry_of("http://127.0.0.1:9", content)
    with pytest.raises(
        InputError, match=rf"its MD5 is {digest} instead of {expected}.* Delete {path}"
    ):
        load("toymnist", tmp_path, entry)
    assert path.read_bytes() == damaged
    path.write_bytes(content)
    assert len(load("toymnist", tmp_path, entry).train) == 9


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "bloodmist",
            "MedMNIST data set 'bloodmist'. Did you mean 'bloodmnist'",
        ),
        ("bloodmnist_96", r"no file for the size '96'.* are bloodmnist, bloodmnist_64"),
        ("organmnist3d", "organmnist3d holds 3D volumes"),
    ],
)
def test_names_that_are_not_data_sets(tmp_path, name, sentence):
    with pytest.raises(InputError, match=sentence):
        load_dataset(f"medmnist:{name}", cache=tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
