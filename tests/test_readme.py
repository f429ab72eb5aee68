"""The README's code is run as it stands, with small images and a small network."""

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

import jaxmed
from jaxmed.strategies import create_strategy
from jaxmed_convert import to_torch

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)


def replaced(code, **exchanges):
    for old, new in exchanges.values():
        assert old in code, f"the README no longer says {old}"
        code = code.replace(old, new)
    return code


@pytest.fixture
def drawn_images(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 20), ("test", 20)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 100, (count, 28, 28)) + 100 * labels[:, None, None]
        arrays[f"{split}_images"] = images.astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    path = tmp_path / "drawn.npz"
    np.savez(path, **arrays)
    return path


def test_from_python(drawn_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "resnet10_narrow.safetensors"
    source = jaxmed.create_model("resnet10_narrow", num_classes=1000)
    save_file({k: v.contiguous() for k, v in to_torch(source).items()}, weights)
    code = replaced(
        BLOCKS[0],
        source=("medmnist:pneumoniamnist", f"npz:{drawn_images}"),
        size=("image_size=224", "image_size=64"),
        backbone=("resnet18", "resnet10_narrow"),
        weights=('"imagenet"', f'"file:{weights}"'),
    )
    names = {}
    exec(code, names)
    assert names["result"].best["metric"] == "val_auroc"
    assert names["report"]["test"]["auroc"]["value"] > 0.5
    assert "'chosen_on': 'val'" in capsys.readouterr().out


def test_your_own_strategy(tmp_path, monkeypatch):
    code = BLOCKS[1]
    assert len(code.split("def ")[1].strip().splitlines()) < 15
    (tmp_path / "readme_module.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    model = jaxmed.create_model("resnet10_narrow", num_classes=2)
    strategy = create_strategy("readme_module:last_stage", model, rate=1e-3)
    (phase,) = strategy.summary(model)
    rates = {group["name"]: group["learning_rate"] for group in phase["groups"]}
    assert rates == {"layer4": 1e-3, "head": 1e-2}
