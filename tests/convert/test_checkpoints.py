"""Files of torch and safetensors, good and bad."""

import argparse
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from jaxmed.errors import InputError
from jaxmed_convert.checkpoints import hash_file, read_checkpoint

TENSORS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.bias": torch.ones(300)}


def _same(tensors) -> bool:
    return tensors.keys() == TENSORS.keys() and all(
        np.array_equal(np.asarray(tensors[name]), TENSORS[name]) for name in TENSORS
    )


def _message(path) -> str:
    with pytest.raises(InputError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS, "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": TENSORS}},
        {"epoch": 3, "state_dict": TENSORS, "hyper_parameters": {"lr": 0.1, "n": "x"}},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_wrappers_are_taken_off(tmp_path, content, zipped):
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert _same(checkpoint.tensors)
    assert checkpoint.sha256 == hash_file(path)
    assert checkpoint.notes == ()


@pytest.mark.parametrize("zipped", [True, False])
def test_settings_and_results_beside_the_weights_are_harmless(tmp_path, zipped):
    """What the reference scripts of torchvision and many others save."""
    path = tmp_path / "weights.pth"
    content = {
        "model": TENSORS,
        "args": argparse.Namespace(lr=0.1, out=Path("runs"), sizes=[224]),
        "best": np.float64(0.9),
        "loss": np.float32(0.1),
        "step": np.int64(3),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert _same(read_checkpoint(path).tensors)


@pytest.mark.parametrize("key", ["model_ema", "state_dict_ema", "ema", "avg_model"])
def test_an_averaged_copy_in_the_file_is_said(tmp_path, key):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": TENSORS, key: {"module": TENSORS}}, path)
    checkpoint = read_checkpoint(path)
    assert _same(checkpoint.tensors)
    assert checkpoint.notes == (
        f"The file also holds an averaged copy ({key}), which is ignored.",
    )


def test_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    assert _same(read_checkpoint(path).tensors)


def test_bfloat16_safetensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.tensor([1.5, -2], dtype=torch.bfloat16)}, path)
    tensor = read_checkpoint(path).tensors["a"]
    assert str(tensor.dtype) == "bfloat16"
    assert tensor.astype(np.float32).tolist() == [1.5, -2]


class _Code:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_code_is_refused_and_the_code_does_not_run(tmp_path, zipped):
    path, trap = tmp_path / "weights.pth", tmp_path / "trap"
    torch.save({"a": _Code(trap)}, path, _use_new_zipfile_serialization=zipped)
    message = _message(path)
    assert "is refused because it holds code" in message
    assert "mkdir" in message
    assert "torch.save(model.state_dict(), path)" in message
    assert not trap.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    assert "holds code (torch.nn.modules.linear.Linear)" in _message(path)


def test_a_plain_pickle_with_code_does_not_run(tmp_path):
    path, trap = tmp_path / "weights.pth", tmp_path / "trap"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps(_Code(trap), protocol))
        _message(path)
        assert not trap.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_files_are_explained_wherever_they_end(tmp_path, zipped):
    whole, path = tmp_path / "whole.pth", tmp_path / "weights.pth"
    torch.save(TENSORS, whole, _use_new_zipfile_serialization=zipped)
    content = whole.read_bytes()
    for length in range(0, len(content), 17):
        path.write_bytes(content[:length])
        message = _message(path)
        # In the first lines of the old format the name of an allowed function may be
        # cut short, which makes it look like that of a foreign one.
        if zipped or length > 600:
            assert "truncated, damaged or not a PyTorch checkpoint" in message


def test_truncated_safetensors_are_explained(tmp_path):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "weights.safetensors"
    save_file(TENSORS, whole)
    content = whole.read_bytes()
    for length in range(0, len(content), 17):
        path.write_bytes(content[:length])
        assert "truncated, damaged or not a safetensors file" in _message(path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"PK", b"\x80\x02", b"\x00" * 99]
)
def test_other_files_are_explained(tmp_path, content):
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"weights{suffix}"
        path.write_bytes(content)
        assert "truncated, damaged or not a" in _message(path)


def test_missing_files_and_other_suffixes(tmp_path):
    assert "There is no weights file" in _message(tmp_path / "none.pth")
    assert "There is no weights file" in _message(tmp_path)
    path = tmp_path / "weights.h5"
    path.write_bytes(b"x")
    assert "must end in one of .pth, .pt, .ckpt, .safetensors" in _message(path)


def test_a_missing_torch_is_explained(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(TENSORS, path)
    program = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # makes Python treat it as not installed
from jaxmed_convert.checkpoints import read_checkpoint
read_checkpoint(Path(sys.argv[1]))
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    last = run.stderr.splitlines()[-1]
    assert "InputError: This needs torch, which is not installed." in last
    assert "pip install 'jaxmed[torch]'" in last


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ([1, 2], "got list"),
        ({"a": 1}, "got int under 'a'"),
        ({}, "got dict"),
        (torch.ones(2), "got Tensor"),
        ({"state_dict": {"a": "x"}}, "got str under 'a'"),
    ],
)
def test_other_content_is_explained(tmp_path, content, got):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert f"expected tensors by name, {got}." in _message(path)
