"""What a user's machine may refuse: files, room on a disk, devices, a reader."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models import resnet18

RECIPE = """
name = "small"
[data]
source = "npz:{data}"
image_size = 32
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = {{ epochs = 1 }}
[evaluate]
resamples = 100
[explain]
images = 1
"""


def command(*words, module="jaxmed.experiments", limits=(), **environment):
    """Runs a command as a user does; returns its exit code and what it said."""
    variables = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment
    if "JAXMED_CACHE" in environment:
        # Its compiled programs are meant, not those of the suite.
        variables = {k: v for k, v in variables.items() if "COMPILATION_CACHE" not in k}
    done = subprocess.run(
        [*limits, sys.executable, "-m", module, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env=variables,
    )
    return done.returncode, done.stderr


def check_sentence(done: tuple[int, str], *parts: object) -> None:
    code, said = done
    last = said.splitlines()[-1]
    assert code == 2, said
    assert "Traceback" not in said
    assert last.startswith(("Error: ", "jaxmed_convert: "))
    for part in parts:
        assert str(part) in last


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("surroundings")


@pytest.fixture(scope="module")
def experiment(folder) -> Path:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 16), ("val", 12), ("test", 12)):
        images = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{split}_images"] = images
        arrays[f"{split}_labels"] = np.arange(count)[:, None] % 2
    np.savez(folder / "data.npz", **arrays)
    recipe = folder / "small.toml"
    recipe.write_text(RECIPE.format(data=folder / "data.npz"))
    done = command("run", recipe, "--out", folder)
    assert done[0] == 0, done[1]
    return folder / "small"


def unprivileged(*words, **options):
    """Runs a command as a user whom permissions bind, as they do not bind root."""
    limits = []
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root may do everything, and there is no setpriv to limit it")
        limits = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    return command(*words, limits=limits, **options)


@contextmanager
def modes(paths, mode: int) -> Iterator[None]:
    """Gives paths other permissions for a while."""
    before = {path: path.stat().st_mode for path in paths}
    for path in reversed(list(before)):
        path.chmod(mode)
    try:
        yield
    finally:
        for path, old in before.items():
            path.chmod(old)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("", 0), ("main", 0), ("main/seed-0/metrics.json", 0), ("", 0o444)],
)
def test_what_may_not_be_read_is_a_sentence(experiment, name, mode):
    run = experiment / "main" / "seed-0"
    with modes([experiment / name], mode):
        for words in (
            ("report", experiment),
            ("report", "--reevaluate", experiment),
            ("compare", run, run),
            ("predict", run, experiment / "samples.png"),
        ):
            check_sentence(unprivileged(*words), experiment)


def test_where_nothing_may_be_written_is_a_sentence(experiment, folder):
    before = sorted(experiment.rglob("*"))
    recipe, run = folder / "small.toml", experiment / "main" / "seed-0"
    with modes([folder, *(p for p in folder.rglob("*") if p.is_dir())], 0o555):
        for words in (
            ("report", experiment),
            ("report", "--reevaluate", experiment),
            ("run", recipe, "--out", folder / "new"),
            ("run", recipe, "--out", folder, "--evaluate.threshold", "f1"),
            ("export", run, "--format", "safetensors"),
            ("predict", run, experiment / "samples.png", "--out", experiment / "a.csv"),
        ):
            check_sentence(unprivileged(*words), folder)
    assert sorted(experiment.rglob("*")) == before


def test_out_below_a_folder_that_may_not_be_entered_is_a_sentence(folder, tmp_path):
    for mode in (0, 0o555):
        with modes([tmp_path], mode):
            for out in (tmp_path, tmp_path / "runs"):
                words = ("run", folder / "small.toml", "--out", out)
                check_sentence(unprivileged(*words), tmp_path)


@pytest.fixture(scope="module")
def weights(folder) -> Path:
    path = folder / "resnet18.pth"
    torch.save(resnet18().state_dict(), path)
    return path


@pytest.mark.parametrize("mode", [0o555, 0])
def test_a_cache_that_may_not_be_used_is_a_sentence(weights, tmp_path, mode):
    words = ("file", "resnet18", weights, "--cache", tmp_path)
    with modes([tmp_path], mode):
        check_sentence(unprivileged(*words, module="jaxmed_convert"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("mode", [0o555, 0])
def test_what_needs_no_cache_goes_without(experiment, tmp_path, mode):
    cache = tmp_path / "cache"
    cache.mkdir()
    words = ("run", experiment.parent / "small.toml", "--out", tmp_path)
    with modes([cache], mode):
        done = unprivileged(*words, JAXMED_CACHE=str(cache))
    assert done[0] == 0, done[1]


# Limits how long a file may become, which is the end of a disk for one process. A
# program of its own sets it: code between fork and exec must not run beside JAX.
LITTLE_ROOM = """\
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
os.execv(sys.argv[2], sys.argv[2:])
"""


def with_little_room(*words, size=40_000, **options):
    # JAX would warn of programs that it cannot keep.
    options |= {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    limits = [sys.executable, "-c", LITTLE_ROOM, str(size)]
    return command(*words, limits=limits, **options)


@pytest.mark.parametrize("form", ["torch", "safetensors", "stablehlo", "onnx"])
def test_an_export_without_room_leaves_nothing(experiment, tmp_path, form):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    run, out = experiment / "main" / "seed-0", tmp_path / "out"
    words = ("export", run, "--format", form, "--out", out)
    check_sentence(with_little_room(*words), "Cannot write", out, "File too large")
    assert not out.exists()


@pytest.mark.parametrize("form", ["html", "pdf", "csv,latex"])
def test_a_report_without_room_leaves_the_old_one(experiment, form):
    def contents():
        return {p: p.read_bytes() for p in experiment.rglob("*") if p.is_file()}

    before = contents()
    done = with_little_room("report", experiment, "--format", form, size=500)
    check_sentence(done, "Cannot write", "File too large")
    # Tables that had room may be there, whole.
    assert before.items() <= contents().items()
    assert not list(experiment.rglob(".unfinished-*"))


def test_weights_without_room_in_the_cache_leave_nothing(weights, tmp_path):
    words = ("file", "resnet18", weights, "--cache", tmp_path)
    done = with_little_room(*words, module="jaxmed_convert")
    check_sentence(done, "Cannot write", tmp_path, "File too large")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_reevaluation_without_room_leaves_the_run_as_it_was(experiment):
    run = experiment / "main" / "seed-0"
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    done = with_little_room("report", "--reevaluate", run, size=3_000)
    check_sentence(done, "Cannot write", "File too large")
    after = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert after == before


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_device_that_is_not_there_is_a_sentence(folder, tmp_path, platform):
    words = ("run", folder / "small.toml", "--out", tmp_path)
    done = command(*words, JAX_PLATFORMS=platform)
    check_sentence(done, f"JAX_PLATFORMS is {platform}, and JAX finds no such device")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("jaxmed.experiments", ("list",)),
        ("jaxmed.experiments", ("list", "--strategies")),
        ("jaxmed.experiments", ("run", "--help")),
        ("jaxmed_convert", ("list",)),
    ],
)
def test_a_reader_that_goes_away_is_no_error(module, words):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
