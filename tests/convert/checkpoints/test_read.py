"""Files of torch and safetensors, good and bad."""

import argparse
import datetime
import gzip
import os
import pickle
import subprocess
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from jaxmed.errors import InputError
from jaxmed_convert.checkpoints.read import Checkpoint, read_checkpoint

TENSORS = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn.bias": torch.ones(300)}

PRECISIONS = (
    *(torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32),
    *(torch.int16, torch.int8, torch.uint8, torch.bool),
)


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


@pytest.mark.parametrize(
    "name",
    ["w.pth.tar", "w.bin", "w.pkl", "w.ckpt", "W.PTH", "w.model", "w", "w.safetensor"],
)
@pytest.mark.parametrize("save", [torch.save, save_file])
def test_the_content_tells_what_a_file_is_and_not_its_ending(tmp_path, name, save):
    save(TENSORS, tmp_path / name)
    assert _same(read_checkpoint(tmp_path / name).tensors)


NUMBERS = [np.dtype(code).type(1) for code in np.typecodes["AllInteger"] + "efdFD?"]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        *NUMBERS,
        np.str_("text"),
        np.datetime64("2026-01-01"),
        np.ones((2, 3), np.int16),
        np.asfortranarray(np.ones((2, 3))),
        np.array(["a", "bc"]),
        np.array([None, {}], object),
        np.dtype("float16"),
        defaultdict(list, {"a": [1]}),
        defaultdict(dict),
        Counter("abc"),
        deque([1, 2], 5),
        {1, 2},
        # One member: the order of several differs from process to process.
        frozenset("a"),
        types.SimpleNamespace(lr=0.1, sizes=np.arange(3)),
        datetime.datetime(2026, 1, 1),
        datetime.timedelta(1),
        torch.Size([2]),
        torch.float16,
    ],
    ids=repr,
)
def test_values_beside_the_weights_do_no_harm(tmp_path, value, zipped):
    path = tmp_path / "weights.pth"
    content = {"state_dict": TENSORS, "best": value, "all": {"n": [value]}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert _same(checkpoint.tensors)
    assert checkpoint.notes == ()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<f2", "<i8"])
def test_arrays_as_weights_keep_every_number(tmp_path, kind, order):
    path = tmp_path / "weights.pth"
    array = np.arange(24).reshape(2, 3, 4).astype(kind, order=order)
    torch.save({"a.weight": array, "a.step": np.int32(7)}, path)
    found = read_checkpoint(path).tensors
    np.testing.assert_array_equal(found["a.weight"], array)
    assert found["a.weight"].dtype == array.dtype
    assert found["a.step"] == 7


def test_no_bytes_of_a_file_become_objects(tmp_path):
    """NumPy's own code would take them for addresses."""

    class Forged:
        def __reduce__(self):
            record = (3, "|", None, ("f",), {"f": (np.dtype("O"), 0)}, 8, 1, 0)
            array = np.ones(1).__reduce__()
            return array[0], array[1], (1, (1,), _Described("V8", record), False, b"x")

    class _Described:
        def __init__(self, code, state):
            self.code, self.state = code, state

        def __reduce__(self):
            return np.dtype, (self.code, False, True), self.state

    class Object:
        def __reduce__(self):
            return np.float64(0).__reduce__()[0], (np.dtype("O"), b"12345678")

    for value in (Forged(), Object()):
        path = tmp_path / "weights.pth"
        torch.save({"a": value}, path)
        assert "The file" in _message(path)


def _archive(path):
    with path.open("wb") as file:
        np.savez(file, a=1)


def _script(path):
    torch.jit.script(torch.nn.Linear(2, 2)).save(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_script, "is a TorchScript program"),
        (_archive, "did not write, with a.npy"),
        (
            lambda path: path.write_bytes(pickle.dumps({"a": [1] * 99}, 4)),
            "is a pickle that torch.save did not write",
        ),
        (
            lambda path: path.write_bytes(pickle.dumps({"a": [1] * 99}, 2)),
            "is a pickle that torch.save did not write",
        ),
        (lambda path: path.write_bytes(gzip.compress(b"x")), "is compressed by gzip"),
        (lambda path: path.write_text("<html>not found"), "is a page of HTML"),
        (
            lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
            "is a Git LFS pointer",
        ),
    ],
)
def test_an_intact_file_is_not_called_damaged(tmp_path, write, said):
    path = tmp_path / "weights.pth"
    write(path)
    message = _message(path)
    assert said in message
    assert "damaged" not in message


def test_a_class_of_the_users_is_named_and_the_file_not_called_damaged(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": TENSORS, "config": Checkpoint(tensors={})}, path)
    message = _message(path)
    assert "holds code (jaxmed_convert.checkpoints.read.Checkpoint)" in message
    assert "damaged" not in message


def test_altered_files_are_called_damaged(tmp_path):
    whole, path = tmp_path / "whole.pth", tmp_path / "weights.pth"
    torch.save(TENSORS, whole)
    content = bytearray(whole.read_bytes())
    at = content.index(b"conv.weight")
    content[at - 20 : at + 20] = b"\xff" * 40
    path.write_bytes(content)
    assert "truncated, damaged" in _message(path)


@pytest.mark.parametrize(
    "content",
    [
        {"net": TENSORS},
        {"state": {"network": TENSORS}, "step": torch.ones(1)},
        {"backbone": TENSORS, "opt_state": {"a.exp_avg": torch.ones(3)}},
        {"model_ema": TENSORS},
        {"teacher": TENSORS, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        {"epoch": 3, "module": {"state_dict": TENSORS}},
        {**TENSORS, "epoch": 3},
    ],
)
def test_a_state_dict_is_found_under_any_key(tmp_path, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert _same(read_checkpoint(path).tensors)


def test_of_several_networks_the_others_are_said(tmp_path):
    path = tmp_path / "weights.pth"
    more = TENSORS | {"more.weight": torch.ones(1)}
    torch.save({"student": TENSORS, "teacher": more}, path)
    checkpoint = read_checkpoint(path)
    assert "more.weight" in checkpoint.tensors
    assert checkpoint.notes == (
        "The tensors under teacher are taken.",
        "The file also holds 2 tensors under student, which are ignored.",
    )


def without_torch(path: Path) -> subprocess.CompletedProcess:
    """Reads a file in a Python without torch, and prints its tensors' sums."""
    program = """
import sys
from pathlib import Path
sys.modules["torch"] = None  # makes Python treat it as not installed
from jaxmed_convert.checkpoints.read import read_checkpoint
for name, tensor in read_checkpoint(Path(sys.argv[1])).tensors.items():
    print(name, tensor.dtype, tensor.shape, tensor.tobytes().hex())
"""
    return subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("zipped", [True, False])
def test_plain_tensors_need_no_torch(tmp_path, zipped):
    base = torch.arange(24.0).reshape(2, 3, 4)
    tensors = {
        "turned": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "parameter": torch.nn.Parameter(base[0]),
        "number": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        **{str(dtype): base.to(dtype) for dtype in PRECISIONS},
    }
    path = tmp_path / "weights.pth"
    content = {"state_dict": OrderedDict(tensors), "epoch": 3}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)

    lines = without_torch(path).stdout.splitlines()

    for line, (name, tensor) in zip(lines, tensors.items(), strict=True):
        expected = tensor.detach().contiguous()
        content = expected.view(torch.uint8) if expected.numel() > 1 else expected
        shape = tuple(expected.shape)
        dtype = str(expected.dtype).removeprefix("torch.")
        assert line.strip() == (
            f"{name} {dtype} {shape} {content.numpy().tobytes().hex()}".strip()
        )


def test_what_needs_torch_is_explained_without_it(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(TENSORS | {"when": datetime.date(2020, 1, 2)}, path)
    last = without_torch(path).stderr.splitlines()[-1]
    assert "holds more than tensors (datetime.date), and torch" in last
    assert "pip install 'jaxmed[torch]'" in last
    path.write_bytes(path.read_bytes()[:-400])
    assert "truncated, damaged or not a PyTorch" in without_torch(path).stderr


@pytest.mark.parametrize("zipped", [True, False])
def test_code_does_not_run_without_torch_either(tmp_path, zipped):
    class Harmful:
        def __reduce__(self):
            return print, ("it ran",)

    path = tmp_path / "weights.pth"
    content = TENSORS | {"more": Harmful()}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    run = without_torch(path)
    assert "it ran" not in run.stdout
    assert "holds more than tensors (__builtin__.print)" in run.stderr


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
