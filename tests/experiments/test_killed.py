"""A run that was killed at any moment goes on, and ends the same to the bit."""

import csv
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import load_best_weights, open_checkpoints

RECIPE = """
description = "Which channel is bright?"
[data]
source = "npz:{data}"
image_size = 40
[augment]
preset = "zoom_flip"
[model]
backbone = "resnet10_narrow"
[train]
batch_size = 8
accumulate = 2
ema = 0.8
sampling = "balanced"
select = "val_loss"
checkpoint_steps = 1
strategy = "two_phase"
options = {{ epochs = 4, head_epochs = 2 }}
[evaluate]
resamples = 100
[explain]
images = 2
[arms.only]
"""
TIMINGS = ("seconds", "images_per_second")
SAME = ("config.toml", "predictions.csv", "metrics.json", "cams/cams.json")

Moment = Callable[[float, Path], bool]


def draw(path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("val", 18), ("test", 15)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 120, (count, 28, 28, 3), dtype=np.uint8)
        images[np.arange(count), :, :, labels] += 60
        arrays |= {f"{split}_images": images, f"{split}_labels": labels[:, None]}
    np.savez(path, **arrays)


def start(folder: Path, out: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxmed.experiments", "run"]
    return subprocess.Popen(
        [*command, folder / "channels.toml", "--out", out, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said


def run_of(out: Path) -> Path:
    return out / "channels" / "only" / "seed-0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """With recipe, images, compiled programs, and the finished run in `out`."""
    folder = tmp_path_factory.mktemp("killed")
    draw(folder / "channels.npz")
    text = RECIPE.format(data=folder / "channels.npz")
    (folder / "channels.toml").write_text(text)
    finish(start(folder, folder / "out"))
    return folder


@pytest.fixture(scope="module")
def seconds(folder) -> float:
    """What the run takes where all is compiled."""
    began = time.monotonic()
    finish(start(folder, folder / "again"))
    check_same(folder / "again", folder / "out")
    return time.monotonic() - began


def kill_at(moment: Moment, folder: Path, out: Path) -> bool:
    """Starts the run, kills it at a moment, and tells whether it was still going."""
    process, began = start(folder, out), time.monotonic()
    checkpoints = run_of(out) / "checkpoints"
    while process.poll() is None and not moment(time.monotonic() - began, checkpoints):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def after(seconds: float) -> Moment:
    return lambda passed, _: passed > seconds


def while_writing(count: int) -> Moment:
    """While the checkpoint is written that is the `count`-th from the start."""
    seen: set[str] = set()

    def is_it(passed: float, checkpoints: Path) -> bool:
        if checkpoints.is_dir():
            names = (path.name for path in checkpoints.iterdir())
            # Not what Orbax writes beside it, under a longer name.
            seen.update(n.split("-")[1] for n in names if n.startswith(".unfinished-"))
        return len(seen) >= count

    return is_it


def read_history(out: Path) -> list[dict]:
    with (run_of(out) / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]


def read_weights(out: Path) -> list[dict[str, bytes]]:
    """Of the best epoch, and of the last."""
    folder = run_of(out) / "checkpoints"
    best, _ = load_best_weights(folder)
    with open_checkpoints(folder) as checkpoints:
        checkpoints.load_progress()
        last = checkpoints.load_weights()
    return [{p: array.tobytes() for p, array in w.items()} for w in (best, last)]


def check_same(out: Path, expected: Path) -> None:
    for name in SAME:
        made, wanted = (run_of(o) / name for o in (out, expected))
        assert made.read_bytes() == wanted.read_bytes(), name
    assert read_history(out) == read_history(expected)
    assert read_weights(out) == read_weights(expected)
    assert not list(out.rglob(".unfinished-*"))
    assert not list(out.rglob("damaged-*"))


def test_a_run_killed_three_times_ends_the_same(folder, tmp_path):
    out = tmp_path / "out"
    # The first while it writes its first checkpoint, within an epoch.
    assert kill_at(while_writing(1), folder, out)
    assert kill_at(while_writing(5), folder, out)
    assert kill_at(while_writing(9), folder, out)
    finish(start(folder, out))
    check_same(out, folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("number", range(20))
def test_a_run_killed_at_a_random_moment_ends_the_same(
    folder, seconds, tmp_path, number
):
    """Half of them at any moment, half while one of the checkpoints is written."""
    rng = np.random.default_rng([5, number])
    moment = after(rng.uniform(0, seconds))
    if number % 2:
        # Four steps in each of four epochs: three within, and one at the end.
        moment = while_writing(int(rng.integers(1, 17)))
    kill_at(moment, folder, tmp_path / "out")
    finish(start(folder, tmp_path / "out"))
    check_same(tmp_path / "out", folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "how"),
    [
        (signal.SIGTERM, 143, "Interrupted by SIGTERM."),
        (signal.SIGINT, 130, "Interrupted."),
        (signal.SIGUSR1, 138, "Interrupted by"),
        (signal.SIGHUP, 129, "Interrupted by"),
    ],
)
def test_a_signal_stops_a_run_that_goes_on_where_it_was(
    folder, tmp_path, number, code, how
):
    process = start(folder, tmp_path / "out")
    checkpoints = run_of(tmp_path / "out") / "checkpoints"
    while process.poll() is None and not (checkpoints / "0+1").exists():
        time.sleep(0.001)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    last = said.splitlines()[-1]
    assert last.startswith(how)
    assert last.endswith(" The same command goes on where it stopped.")
    assert "Traceback" not in said
    finish(start(folder, tmp_path / "out"))
    check_same(tmp_path / "out", folder / "out")


@pytest.mark.slow
def test_an_extension_killed_half_way_ends_as_if_asked_for_at_once(folder, tmp_path):
    out = tmp_path / "out"
    finish(start(folder, out, "--train.options.epochs", "2"))
    process = start(folder, out, "--extend")
    # The recipe's two more epochs, of which the second is within its four steps.
    middle = run_of(out) / "checkpoints" / "5+2"
    while process.poll() is None and not middle.exists():
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (run_of(out) / "metrics.json").exists()
    finish(start(folder, out, "--extend"))
    check_same(out, folder / "out")


@pytest.mark.slow
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(folder, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "tmpfs", disk, "-o"]
    if not shutil.which("mount") or subprocess.run([*mount, "size=7m"]).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        process = start(folder, disk / "out")
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 2, said
        last = said.splitlines()[-1]
        assert last.startswith("Error: ")
        assert "cannot be written to" in last
        assert "No space left on device. Those before it are as they were" in last
        assert "Traceback" not in said
        assert not list(disk.rglob(".unfinished-*"))
        # The same disk, larger.
        subprocess.run([*mount, "remount,size=99m"], check=True)
        finish(start(folder, disk / "out"))
        check_same(disk / "out", folder / "out")
    finally:
        subprocess.run(["umount", disk], check=True)
