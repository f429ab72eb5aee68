"""The Python code of the guides is run as it stands, with small images."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxmed

DOCS = Path(__file__).parents[1] / "docs"


def blocks_of(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / name).read_text("utf-8"), re.S)


@pytest.mark.slow
def test_the_guides_code_runs(tmp_path, monkeypatch, capsys):
    """One model goes through all guides; each block sees the names of those before."""
    rng, arrays = np.random.default_rng(0), {}
    for split, count in (("train", 24), ("val", 16), ("test", 16)):
        labels = np.arange(count) % 2
        images = (
            rng.integers(0, 120, (count, 32, 32, 3)) + 80 * labels[:, None, None, None]
        )
        arrays |= {f"{split}_images": images.astype(np.uint8)}
        arrays |= {f"{split}_labels": labels[:, None]}
    np.savez(tmp_path / "drawn.npz", **arrays)
    for name in ("scans", "more"):
        (tmp_path / name).mkdir()
        Image.fromarray(arrays["test_images"][1]).save(tmp_path / name / "1.png")
    monkeypatch.chdir(tmp_path)
    names = {
        "data": jaxmed.load_dataset("npz:drawn.npz", image_size=32),
        "model": jaxmed.create_model("resnet18", num_classes=2),
        "images": arrays["test_images"][:3],
    }

    (evaluation,) = blocks_of("evaluation.md")
    exec(evaluation, names)
    printed = capsys.readouterr().out
    assert "'ci_low'" in printed
    assert printed.endswith(" val\n")

    using, saving, onnx, stablehlo, torch, safetensors = blocks_of("using_a_model.md")
    exec(saving, names)
    folder = re.search(r'load_model\("(.*?)"\)', using)[1]
    jaxmed.save_model(folder, names["predictor"])
    exec(using, names)
    assert len(re.findall(r"^\S+1\.png .*$", capsys.readouterr().out, re.M)) == 2
    expected = jaxmed.predict_split(names["model"], names["data"], "test").probs[:3]

    jaxmed.export.export_model(
        names["predictor"], ["torch", "onnx", "stablehlo", "safetensors"], tmp_path
    )
    exec(onnx, names)
    np.testing.assert_allclose(names["scores"], expected, atol=1e-4)
    assert names["thresholds"]
    exec(stablehlo, names)
    np.testing.assert_allclose(names["outputs"]["scores"], expected, atol=1e-4)
    names["model"] = None
    exec(torch, names)
    assert not names["model"].training
    exec(safetensors, names)
    loaded = jaxmed.predict_split(names["model"], names["data"], "test").probs[:3]
    np.testing.assert_array_equal(loaded, expected)
