"""Contract 5: the same command as two processes of two devices, and the same answer."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import load_best_weights, open_checkpoints
from jaxmed.experiments.__main__ import main

RECIPE = """
description = "Which channel is bright?"
[data]
source = "npz:{data}"
image_size = 40
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 10
checkpoint_steps = 2
select = "val_loss"
strategy = "two_phase"
options = {{ epochs = 2, head_epochs = 3 }}
[evaluate]
resamples = 100
[explain]
images = 1
[arms.only]
"""
# Seconds after which a program hangs; it takes a tenth on an idle machine.
LIMIT = 240


class Processes:
    """A command run as two processes of two devices each."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.running: list[subprocess.Popen] = []

    def start(self, out: Path, *flags: str, second: Sequence[str] = ()) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        self.running = [
            start(
                self.folder, out, *flags, *own, "--coordinator", address,
                "--processes", "2", "--process", str(number), devices=2,
            )
            for number, own in enumerate(((), second))
        ]  # fmt: skip

    def finish(self) -> list[tuple[int, str, str]]:
        """Waits for all; returns exit codes, and what each printed."""
        until, ends = time.monotonic() + LIMIT, []
        for process in self.running:
            said = process.communicate(timeout=max(1, until - time.monotonic()))
            ends.append((process.returncode, *said))
        return ends

    def kill(self) -> None:
        for process in self.running:
            process.kill()
            process.communicate()


def start(folder: Path, out: Path, *flags: str, devices: int = 1) -> subprocess.Popen:
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, "-m", "jaxmed.experiments", "run"]
    return subprocess.Popen(
        [*command, folder / "channels.toml", "--out", out, *flags],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def draw(path: Path, seed: int = 0) -> None:
    rng = np.random.default_rng(seed)
    arrays = {}
    for split, count in (("train", 40), ("val", 13), ("test", 9)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 28, 28, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels] += 60
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)


def run_of(out: Path) -> Path:
    return out / "channels" / "only" / "seed-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With recipe, images, and in `out` the run of one process with one device."""
    folder = tmp_path_factory.mktemp("processes")
    draw(folder / "channels.npz")
    text = RECIPE.format(data=folder / "channels.npz")
    (folder / "channels.toml").write_text(text)
    process = start(folder, folder / "out")
    _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, said
    return folder


@pytest.fixture
def two(folder) -> Iterator[Processes]:
    two = Processes(folder)
    yield two
    two.kill()


def wait_for(path: Path, processes: Processes) -> None:
    until = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < until, "it hangs"
        if any(p.poll() is not None for p in processes.running):
            pytest.fail(f"It ended before {path}: {processes.finish()}")
        time.sleep(0.005)


def weights_of(out: Path) -> list[np.ndarray]:
    """Of the best epoch and of the last, each as one vector."""
    folder = run_of(out) / "checkpoints"
    best, _ = load_best_weights(folder)
    with open_checkpoints(folder) as checkpoints:
        checkpoints.load_progress()
        last = checkpoints.load_weights()
    return [np.concatenate([w[p].ravel() for p in sorted(w)]) for w in (best, last)]


def read(out: Path, name: str, columns: str) -> np.ndarray:
    with (run_of(out) / name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return np.array(
        [[float(v) for k, v in row.items() if k.startswith(columns)] for row in rows]
    )


def check_same(out: Path, expected: Path) -> None:
    for own, wanted in zip(weights_of(out), weights_of(expected), strict=True):
        assert np.linalg.norm(own - wanted) < 1e-5 * np.linalg.norm(wanted)
    for name, columns in (("predictions.csv", "prob_"), ("history.csv", "val_loss")):
        own, wanted = (read(o, name, columns) for o in (out, expected))
        assert own.shape == wanted.shape
        np.testing.assert_allclose(own, wanted, rtol=0, atol=1e-5)
    files = [
        {
            path.relative_to(o)
            for path in o.rglob("*")
            if path.is_file() and "checkpoints" not in path.parts
        }
        for o in (out, expected)
    ]
    assert files[0] == files[1]
    assert not list(out.rglob(".unfinished-*"))


def test_two_processes_that_were_killed_end_as_one_device(folder, two, tmp_path):
    out = tmp_path / "out"
    two.start(out)
    # Within the first epoch that trains all.
    wait_for(run_of(out) / "checkpoints" / "3+2", two)
    two.kill()
    assert [p.returncode for p in two.running] == [-signal.SIGKILL] * 2
    two.start(out)
    first, second = two.finish()
    assert first[0] == second[0] == 0, (first, second)
    check_same(out, folder / "out")
    # One says what is done, the other nothing.
    assert "all 1/2" in first[2]
    assert "all 1/2" not in second[2]
    assert "Report: " in first[1]
    assert "Report: " not in second[1]


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_one_goes_on_alone(folder, two, tmp_path):
    out = tmp_path / "out"
    two.start(out, "--train.feed", "stream")
    wait_for(run_of(out) / "checkpoints" / "3+2", two)
    two.running[1].send_signal(signal.SIGTERM)
    first, second = two.finish()
    assert first[0] == second[0] == 143, (first, second)
    assert "Interrupted by SIGTERM. The same command goes on" in first[2]
    assert "Traceback" not in first[2] + second[2]
    assert not (run_of(out) / "metrics.json").exists()
    alone = start(folder, out)
    _, said = alone.communicate(timeout=LIMIT)
    assert alone.returncode == 0, said
    assert "all 1/2" in said or "all 2/2" in said, said
    assert "head 1/3" not in said
    check_same(out, folder / "out")


def test_processes_with_other_images_end_with_a_sentence(folder, two, tmp_path):
    draw(tmp_path / "other.npz", seed=1)
    two.start(tmp_path / "out", second=["--data.source", f"npz:{tmp_path}/other.npz"])
    for code, _, said in two.finish():
        assert code == 2, said
        assert "The processes do not see the same" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--process", "0"], "--coordinator and --processes is missing"),
        (["--distributed", "--process", "0"], "leave it out"),
        (
            ["--coordinator", "here", "--processes", "2", "--process", "0"],
            "--coordinator must be HOST:PORT, got 'here'.",
        ),
        (
            ["--coordinator", "h:1", "--processes", "2", "--process", "2"],
            "--process counts from 0 to --processes minus 1; got 2 of 2.",
        ),
    ],
)
def test_bad_arguments_are_sentences(folder, capsys, flags, sentence):
    assert main(["run", str(folder / "channels.toml"), *flags]) == 2
    assert sentence in capsys.readouterr().err
