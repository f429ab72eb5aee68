"""A checkpoint that was not finished, or is damaged, takes nothing away."""

import os
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmed.checkpoints.checkpoint import load_best_weights, open_checkpoints
from jaxmed.checkpoints.recovery import Position
from jaxmed.errors import InputError


def weights_of(epoch):
    return {"head.out.bias": np.full(3, epoch, np.float32)}


def save(checkpoints, epoch, best, *, keep=(), steps=0, optimizer=None):
    progress = {"best": {"epoch": best} if best else None, "history": []}
    state = {"step": np.int32(epoch)} if optimizer is None else optimizer
    keep = {best, *keep} if best else ()
    checkpoints.save(
        Position(epoch, steps), weights_of(epoch), state, progress, keep=keep
    )
    checkpoints.wait()


def names(folder):
    found = {path.name for path in folder.iterdir()}
    return {name for name in found if not name.startswith(".lock")}


def first_bias(weights):
    return weights["head.out.bias"][0]


def test_what_the_last_two_need_is_kept(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 0, None, steps=5)
        save(checkpoints, 1, 1)
        assert names(tmp_path) == {"0+5", "1"}
        save(checkpoints, 2, 1)
        save(checkpoints, 3, 3)
        assert names(tmp_path) == {"1", "2", "3"}
    # What is kept does not depend on who has the folder open.
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.load_progress()["best"] == {"epoch": 3}
        save(checkpoints, 3, 3, steps=7)
        assert names(tmp_path) == {"3", "3+7"}
        save(checkpoints, 3, 3, steps=14)
        assert names(tmp_path) == {"3", "3+7", "3+14"}
        assert first_bias(checkpoints.load_weights(3)) == 3
    assert load_best_weights(tmp_path)[1]["best"] == {"epoch": 3}


def test_a_state_whose_buffers_are_given_away_at_once_is_saved_to_the_bit(tmp_path):
    """The next step writes over the state while the last one is being written."""
    size = 3_000_000
    advance = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    state, expected = jnp.arange(size, dtype=jnp.float32), []
    with open_checkpoints(tmp_path) as checkpoints:
        for epoch in range(1, 4):
            expected.append(np.array(state))
            progress, beside = {"best": {"epoch": epoch}}, {"step": np.int32(1)}
            checkpoints.save(
                Position(epoch), {"x": state}, beside, progress, keep=[1, 2]
            )
            given_away = state
            for _ in range(3):
                state = advance(state)
            assert given_away.is_deleted()
        checkpoints.wait()
        for epoch in range(1, 4):
            read = checkpoints.load_weights(epoch)["x"]
            assert read.tobytes() == expected[epoch - 1].tobytes()


def test_progress_made_while_a_checkpoint_is_written_is_not_in_it(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        go_on = threading.Event()
        # The one thread that writes has something else to do at first.
        checkpoints._writer.submit(go_on.wait)
        history = [{"epoch": 1}]
        progress = {"best": {"epoch": 1}, "history": history}
        beside = {"step": np.int32(1)}
        checkpoints.save(Position(1), weights_of(1), beside, progress, keep=())
        history.append({"epoch": 2})
        progress["best"]["epoch"] = 2
        go_on.set()
        checkpoints.wait()
        found = checkpoints.load_progress()
    assert found["history"] == [{"epoch": 1}]
    assert found["best"] == {"epoch": 1}


def test_the_state_of_another_optimizer_is_refused(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        like = {"step": jnp.int32(0)}
        assert checkpoints.load_optimizer(like)["step"] == 1
        with pytest.raises(InputError, match="other optimizers, or another ema"):
            checkpoints.load_optimizer(like | {"momentum": jnp.zeros(3)})


def largest_file(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


def flip_a_bit(folder):
    path = largest_file(folder / "weights")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def truncate(folder):
    path = largest_file(folder / "optimizer")
    os.truncate(path, path.stat().st_size // 2)


def truncate_progress(folder):
    os.truncate(folder / "progress" / "metadata", 9)


def lose_a_file(folder):
    largest_file(folder / "weights").unlink()


def lose_the_manifest(folder):
    (folder / "manifest.json").unlink()


def empty_the_manifest(folder):
    os.truncate(folder / "manifest.json", 0)


DAMAGES = [
    flip_a_bit, truncate, truncate_progress, lose_a_file, lose_the_manifest,
    empty_the_manifest,
]  # fmt: skip


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    with open_checkpoints(folder) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 1)
        save(checkpoints, 3, 3)
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_training_goes_on_from_the_last_good_checkpoint(
    three, tmp_path, capsys, damage
):
    folder = tmp_path / "checkpoints"
    shutil.copytree(three, folder)
    damage(folder / "3")
    left = {p.relative_to(folder / "3") for p in (folder / "3").rglob("*")}
    with pytest.raises(InputError, match=rf"The checkpoint {folder}/3 (lacks|has)"):
        load_best_weights(folder)
    with open_checkpoints(folder) as checkpoints:
        progress = checkpoints.load_progress()
        assert progress["best"] == {"epoch": 1}
        assert first_bias(checkpoints.load_weights()) == 2
        assert first_bias(checkpoints.load_weights(1)) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"The checkpoint of epoch 3 cannot be used: {folder}/3 ")
        assert "training goes on after epoch 2." in said
        save(checkpoints, 3, 3)
    # The damaged one is there, as it was, and in nobody's way.
    assert names(folder) == {"1", "2", "3", "damaged-3"}
    aside = folder / "damaged-3"
    assert {p.relative_to(aside) for p in aside.rglob("*")} == left
    assert load_best_weights(folder)[1]["best"] == {"epoch": 3}


def test_a_checkpoint_whose_best_epoch_is_damaged_is_passed_over(tmp_path, capsys):
    with open_checkpoints(tmp_path) as checkpoints:
        for epoch, best in ((1, 1), (2, 2), (3, 2)):
            save(checkpoints, epoch, best, keep={1})
    flip_a_bit(tmp_path / "2")
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.load_progress()["best"] == {"epoch": 1}
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "2, the best epoch until then, has a file that is not" in said[0]
    assert names(tmp_path) == {"1", "damaged-2", "damaged-3"}


def test_if_none_is_good_nothing_is_touched(three, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(three, folder)
    for name in ("1", "2", "3"):
        flip_a_bit(folder / name)
    with (
        open_checkpoints(folder) as checkpoints,
        pytest.raises(InputError, match=r"No checkpoint in .* can be used: .*/3 has"),
    ):
        checkpoints.load_progress()
    assert names(folder) == {"1", "2", "3"}


def test_a_checkpoint_that_nothing_needs_may_be_damaged(tmp_path):
    with open_checkpoints(tmp_path) as checkpoints:
        save(checkpoints, 1, 1)
        save(checkpoints, 2, 2)
    lose_a_file(tmp_path / "1")
    weights, progress = load_best_weights(tmp_path)
    assert progress["best"]["epoch"] == first_bias(weights) == 2
    with open_checkpoints(tmp_path) as checkpoints:
        assert checkpoints.load_progress() == progress
        save(checkpoints, 3, 3)
    assert names(tmp_path) == {"2", "3"}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(command).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def noise(epoch, count):
    """Arrays that do not get smaller by compression."""
    rng = np.random.default_rng(epoch)
    return {"x": rng.integers(0, 2**31, count, np.int32)}


def test_a_full_disk_leaves_the_checkpoints_before_it(small_disk):
    folder = small_disk / "checkpoints"
    with open_checkpoints(folder) as checkpoints:
        for epoch in (1, 2):
            save(checkpoints, epoch, 1, optimizer=noise(epoch, 60_000))
        with pytest.raises(InputError) as raised:
            save(checkpoints, 3, 1, optimizer=noise(3, 60_000))
    assert str(raised.value).startswith(
        f"The checkpoint of epoch 3 cannot be written to {folder}: No space left on "
        "device. Those before it are as they were"
    )
    assert names(folder) == {"1", "2"}
    with open_checkpoints(folder) as checkpoints:
        assert checkpoints.load_progress()["best"] == {"epoch": 1}
        state = checkpoints.load_optimizer(noise(2, 60_000))
        np.testing.assert_array_equal(state["x"], noise(2, 60_000)["x"])


LIMITED = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_checkpoint import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    with open_checkpoints(Path({folder!r})) as checkpoints:
        save(checkpoints, 1, 1, optimizer=noise(1, 60_000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        save(checkpoints, 2, 1, optimizer=noise(2, 60_000))
except InputError as error:
    print(error)
"""


def test_a_write_that_fails_half_way_leaves_the_checkpoints_before_it(tmp_path):
    folder = tmp_path / "checkpoints"
    here = os.path.dirname(__file__)
    script = LIMITED.format(here=here, folder=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        f"The checkpoint of epoch 2 cannot be written to {folder}: File too large. "
        "Those before it are as they were; put that right and run the same again, and "
        "it goes on from them.\n"
    )
    assert names(folder) == {"1"}
    assert first_bias(load_best_weights(folder)[0]) == 1


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path):
    file = tmp_path / "file"
    file.touch()
    with (
        pytest.raises(InputError, match="file/checkpoints cannot be written to: Not a"),
        open_checkpoints(file / "checkpoints"),
    ):
        pass
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    frozen.chmod(0o500)
    immutable = shutil.which("chattr") and os.geteuid() == 0
    if immutable and subprocess.run(["chattr", "+i", frozen]).returncode:
        pytest.skip("the superuser may write everywhere here")
    try:
        with (
            pytest.raises(InputError, match=r"frozen.* cannot be written to: \w+"),
            open_checkpoints(frozen),
        ):
            pass
    finally:
        if immutable:
            subprocess.run(["chattr", "-i", frozen], check=True)
        frozen.chmod(0o700)
