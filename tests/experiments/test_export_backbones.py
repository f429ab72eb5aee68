"""Exported files of torchvision's architectures, opened as model.json says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures.marks import slow

from jaxmed.config.schema import ModelConfig
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.evaluation.calibration import Scaling
from jaxmed.export import EXPORTERS, export_model
from jaxmed.export.verify import draw_images, predict_images
from jaxmed.models.layers.normalization import set_training_norms
from jaxmed.models.registry import create_model
from jaxmed.runs.trained_model import TrainedModel

NAMES = ("healthy", "ill", "unclear")


def trained_model(settings: ModelConfig, image_size: int) -> TrainedModel:
    """Build a network with random weights, whose logits are around 1."""
    model = create_model(**settings.arguments(len(NAMES)), seed=1)
    set_training_norms(model, ())
    preprocessing = Preprocessing(
        image_size=image_size,
        channels=settings.in_channels,
        mean=model.mean,
        std=model.std,
    )
    rng = np.random.default_rng(0)
    images = draw_images((4, image_size, image_size, settings.in_channels), rng)
    logits = model(preprocessing(images))  # pyright: ignore[reportArgumentType]
    model.head.out.kernel[...] /= (logits - logits.mean(axis=0)).std()
    model.head.out.bias[...] = -logits.mean(axis=0) / logits.std()
    scaling = Scaling(
        method="vector", scale=np.array([0.7, 1.2, 1.5]), bias=np.array([0.2, 0, 0])
    )
    return TrainedModel(
        model=model,
        preprocessing=preprocessing,
        metrics={
            "task": "multiclass",
            "class_names": NAMES,
            "threshold": {"method": "youden", "value": dict.fromkeys(NAMES, 0.5)},
            "calibration": scaling.describe(),
        },
        environment={
            "data": {"fingerprint": "", "image_shape": [image_size, image_size, 3]}
        },
    )


def execute(folder: Path, file: str, monkeypatch, **names):
    """Runs the lines that model.json says, in the folder of the files."""
    record = json.loads((folder / "model.json").read_text())
    monkeypatch.chdir(folder)
    exec("\n".join(record["files"][file]["load"]), names)
    return names


# The files of resnet10_narrow are in the default suite: commands/test_export.py.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "image_size"),
    [
        (ModelConfig(backbone="resnet18", head="hidden", hidden_features=16), 64),
        (ModelConfig(backbone="mobilenet_v2"), 64),
        (ModelConfig(backbone="densenet121", head="dropout"), 64),
        (ModelConfig(backbone="vgg16", pool="average", in_channels=1), 64),
        (ModelConfig(backbone="vgg11_bn"), 64),
        (ModelConfig(backbone="inception_v3"), 96),
        (ModelConfig(backbone="convnext_tiny"), 64),
        (ModelConfig(backbone="resnet50", in_channels=1), 64),
    ],
    ids=lambda value: getattr(value, "backbone", None),
)
def test_files_give_what_the_model_gives(settings, image_size, tmp_path, monkeypatch):
    trained = trained_model(settings, image_size)
    export_model(trained, [name for name in EXPORTERS if name != "hub"], tmp_path)
    shape = (3, 70, 83, settings.in_channels)
    images = draw_images(shape, np.random.default_rng(5))
    calibrated, scores = predict_images(trained, images)
    assert np.ptp(scores, axis=0).max() > 0.01
    for file in ("model.onnx", "model.stablehlo"):
        found = execute(tmp_path, file, monkeypatch, images=images)
        np.testing.assert_allclose(found["probabilities"], calibrated, atol=1e-4)
        np.testing.assert_allclose(found["scores"], scores, atol=1e-4)

    prepared = np.asarray(trained.preprocessing(images))  # pyright: ignore
    model = execute(tmp_path, "model.safetensors", monkeypatch)["model"]
    set_training_norms(model, ())
    logits = np.asarray(trained.model(prepared))  # pyright: ignore
    np.testing.assert_array_equal(np.asarray(model(prepared)), logits)

    found = execute(tmp_path, "model.pth", monkeypatch)
    assert type(found["model"]).__module__.startswith("torchvision.models")
    raw = prepared * np.array(trained.preprocessing.std) + trained.preprocessing.mean
    seen = torch.from_numpy((raw - found["mean"]) / found["std"]).float()
    with torch.inference_mode():
        logits_of_torch = found["model"](seen.permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits_of_torch, logits, atol=1e-3)


@pytest.mark.usefixtures("small_vits")
@pytest.mark.parametrize(
    ("backbone", "pool"),
    [
        ("vit_b_16", "own"),
        ("dinov2_vits14_reg", "last_4_and_average"),
        slow("vit_base_patch16_224", "average"),
        slow("vit_giant_patch14_dinov2", "class_and_average"),
    ],
)
def test_vision_transformers_for_another_image_size(
    backbone, pool, tmp_path, monkeypatch
):
    """Of 5×5 patches, not 3×3; `export_model` compares what every file gives."""
    trained = trained_model(ModelConfig(backbone=backbone, pool=pool), 20)
    # The card of a Hub folder needs test results, which this model has not.
    export_model(trained, [name for name in EXPORTERS if name != "hub"], tmp_path)
    record = json.loads((tmp_path / "model.json").read_text())
    if backbone == "vit_b_16":
        # Of torchvision's own size, which the network of this test is not.
        lines = record["files"]["model.pth"]["load"]
        line = 'model = torchvision.models.get_model("vit_b_16", image_size=20)'
        assert line in lines
        return
    found = execute(tmp_path, "model.pth", monkeypatch)
    images = draw_images((2, 20, 20, 3), np.random.default_rng(5))
    prepared = np.array(trained.preprocessing(images))  # pyright: ignore
    with torch.inference_mode():
        logits = found["model"](torch.from_numpy(prepared).permute(0, 3, 1, 2))
    expected = np.asarray(trained.model(prepared))  # pyright: ignore
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4)
