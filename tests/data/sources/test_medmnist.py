"""`medmnist:NAME` against a real HTTP server on this machine."""

import hashlib
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

import jaxmed
from jaxmed.data.sources import medmnist
from jaxmed.data.sources.medmnist_catalog import CatalogEntry, Download, read_catalog
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.sources.source_options import LoadOptions
from jaxmed.data.splits.splitting import GIVEN, make_split
from jaxmed.errors import InputError
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
            if length != "none":
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


def catalog_of(address, content, *, stem="toymnist", volumes=False, md5=None):
    md5 = md5 or hashlib.md5(content).hexdigest()
    entry = CatalogEntry(
        name="toymnist",
        task="multiclass",
        class_names=("red", "green", "blue"),
        counts={"train": 9, "val": 3, "test": 3},
        channels=3,
        license="CC0",
        volumes=volumes,
        files={stem: Download(url=f"{address}/{stem}.npz", md5=md5)},
    )
    return {"toymnist": entry}


def load_medmnist(stem, cache, *, catalog):
    """Loads a data set as `load_dataset` does, of another catalog than MedMNIST's."""
    options = LoadOptions(cache=cache)
    return make_split(medmnist.load_medmnist(stem, options, catalog=catalog), GIVEN)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")


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


def assert_nothing_left(cache):
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("stem", ["toymnist", "toymnist_224"])
def test_downloads_once_and_reads(tmp_path, content, capsys, stem):
    with serving({f"/{stem}.npz": content}) as (address, requests):
        catalog = catalog_of(address, content, stem=stem)
        data = load_medmnist(stem, tmp_path / "cache", catalog=catalog)
        again = load_medmnist(stem.upper(), tmp_path / "cache", catalog=catalog)
    assert requests == [f"/{stem}.npz"]
    assert f"Downloading {stem}.npz 1/1" in capsys.readouterr().err
    assert (data.name, data.source) == (stem, f"medmnist:{stem}")
    assert data.class_names == ("red", "green", "blue")
    assert len(data.train) == 9
    assert data.fingerprint == again.fingerprint
    kept = tmp_path / "cache" / "medmnist" / f"{stem}.npz"
    assert kept.read_bytes() == content
    assert list(kept.parent.iterdir()) == [kept]


def test_server_that_does_not_tell_the_length(tmp_path, content):
    with serving({"/toymnist.npz": (content, "none")}) as (address, _):
        catalog = catalog_of(address, content)
        assert len(load_medmnist("toymnist", tmp_path, catalog=catalog).train) == 9


def test_official_file_passes_the_official_checksum(tmp_path, test_data):
    official = read_catalog()["breastmnist"]
    content = (test_data / "medmnist" / "breastmnist.npz").read_bytes()
    with serving({"/breastmnist.npz": content}) as (address, _):
        md5 = official.files["breastmnist"].md5
        files = {"breastmnist": Download(url=f"{address}/breastmnist.npz", md5=md5)}
        entry = replace(official, files=files)
        data = load_medmnist("breastmnist", tmp_path, catalog={"breastmnist": entry})
    assert data.task == "binary"
    assert data.class_names == ("malignant", "normal, benign")
    splits = {"train": data.train, "val": data.val, "test": data.test}
    assert {name: len(split) for name, split in splits.items()} == official.counts
    # The cached file now serves the public name, without any server.
    public = load_dataset("medmnist:breastmnist", cache=tmp_path, image_size=64)
    assert public.fingerprint == data.fingerprint
    assert public.image_size == 64


@pytest.mark.parametrize("name", ["breast", "blood", "retina", "chest"])
def test_every_task_goes_from_the_file_to_the_numbers(tmp_path, name):
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
    catalog = {official.name: replace(official, files=files)}
    data = replace(
        load_medmnist(official.name, tmp_path, catalog=catalog), image_size=32
    )
    assert data.class_names == official.class_names
    model = jaxmed.create_model("resnet10_narrow", num_classes=classes)
    strategy = create_strategy("frozen", model, epochs=1)
    jaxmed.fit(model, data, strategy, batch_size=16)
    val, test = (jaxmed.predict_split(model, data, name) for name in ("val", "test"))
    report = jaxmed.evaluate(val, test, resamples=100)
    assert val.task == official.task
    assert 0 <= report["test"]["auroc"]["value"] <= 1
    assert list(report["per_class"]["test"]) == list(official.class_names)


def expect_failure(cache, catalog, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        load_medmnist("toymnist", cache, catalog=catalog)
    message = str(caught.value)
    download = catalog["toymnist"].files["toymnist"]
    # Contract 9: the file, where to get it, where to put it.
    assert "toymnist.npz" in message
    assert download.url in message
    assert download.md5 in message
    assert str(cache / "medmnist" / "toymnist.npz") in message
    assert_nothing_left(cache)


def test_missing_on_the_server(tmp_path, content):
    with serving({}) as (address, _):
        catalog = catalog_of(address, content)
        expect_failure(tmp_path / "cache", catalog, "the server says 404 Not Found")


def test_wrong_bytes(tmp_path, content):
    wrong = content[:-1] + b"!"
    md5 = hashlib.md5(wrong).hexdigest()
    with serving({"/toymnist.npz": wrong}) as (address, _):
        catalog = catalog_of(address, content)
        expect_failure(tmp_path / "cache", catalog, f"its MD5 is {md5}")


def test_cut_connection(tmp_path, content):
    half = len(content) // 2
    files = {"/toymnist.npz": (content[:half], len(content))}
    with serving(files) as (address, _):
        catalog = catalog_of(address, content)
        sentence = f"cut after {half} of {len(content)} bytes"
        expect_failure(tmp_path / "cache", catalog, sentence)


def test_no_server(tmp_path, content):
    with serving({}) as (address, _):
        pass
    catalog = catalog_of(address, content)
    expect_failure(tmp_path / "cache", catalog, "Connection refused")


def test_damaged_cached_file_is_explained_and_kept(tmp_path, content):
    path = tmp_path / "medmnist" / "toymnist.npz"
    path.parent.mkdir()
    damaged = content[:100] + b"!" + content[101:]
    path.write_bytes(damaged)
    found, expected = (hashlib.md5(x).hexdigest() for x in (damaged, content))
    catalog = catalog_of("http://127.0.0.1:9", content)
    with pytest.raises(
        InputError, match=rf"{path} .*expected MD5 {expected}, got {found}.*Delete it"
    ):
        load_medmnist("toymnist", tmp_path, catalog=catalog)
    assert path.read_bytes() == damaged


def test_file_put_in_place_by_hand_is_used(tmp_path, content):
    path = tmp_path / "medmnist" / "toymnist.npz"
    path.parent.mkdir()
    path.write_bytes(content)
    catalog = catalog_of("http://127.0.0.1:9", content)
    assert len(load_medmnist("toymnist", tmp_path, catalog=catalog).train) == 9


def test_names_that_are_not_data_sets(tmp_path, content):
    def load(name, **options):
        catalog = catalog_of("http://127.0.0.1:9", content, **options)
        load_medmnist(name, tmp_path / "cache", catalog=catalog)

    with pytest.raises(InputError, match="Did you mean 'toymnist'"):
        load("toymist")
    with pytest.raises(InputError, match=r"no file for the size '96'.* toymnist"):
        load("toymnist_96")
    with pytest.raises(InputError, match="toymnist holds 3D volumes"):
        load("toymnist", volumes=True)
    with pytest.raises(InputError, match="pip install medmnist"):
        load_medmnist("toymnist", tmp_path / "cache", catalog={})
    assert_nothing_left(tmp_path / "cache")
