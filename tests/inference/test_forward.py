"""Views are averaged as predicted one by one; what comes along from a split."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from fixtures.marks import slow
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from jaxmed.data.images.resizing import Resizing
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.errors import InputError
from jaxmed.inference.forward import as_predictions, predict, predict_split
from jaxmed.models.registry import create_model

SIZE, STORED = 32, 37


def flips(image):
    middle = F.center_crop(image, SIZE)
    return [middle, F.horizontal_flip(middle)]


VIEWS = {
    "flip": flips,
    "five_crop": v2.FiveCrop(SIZE),
    "ten_crop": v2.TenCrop(SIZE),
    "dihedral": lambda image: [
        torch.rot90(view, k, (-2, -1)) for view in flips(image) for k in range(4)
    ],
}
ON_DEVICES = """
import json, sys
import jax, numpy as np
from jaxmed.data.transforms.preprocess import Preprocessing
from jaxmed.models.registry import create_model
from jaxmed.inference.forward import predict
assert jax.device_count() == 4
images = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
model = create_model("resnet10_narrow", num_classes=3)
found = [
    predict(
        model, images, preprocessing=Preprocessing(image_size=32), task="multiclass",
        batch_size=4, devices=jax.devices()[:count], views="dihedral",
    )
    for count in (1, 4)
]
print(json.dumps([each.tolist() for each in found]))
"""


def noise(count, size):
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


@pytest.mark.parametrize(
    ("views", "task", "classes"),
    [
        slow("flip", "multilabel", 2),
        slow("five_crop", "binary", 1),
        slow("ten_crop", "multiclass", 3),
        ("dihedral", "multiclass", 3),
    ],
)
def test_probabilities_are_the_mean_over_torchvisions_views(views, task, classes):
    model = create_model("resnet10_narrow", num_classes=classes)
    crop = Preprocessing(image_size=SIZE, resizing=Resizing(mode="crop"))
    images = noise(5, STORED)
    found = predict(
        model, images, preprocessing=crop, task=task, batch_size=2, views=views
    )
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2)
    each = [
        predict(
            model,
            view.permute(0, 2, 3, 1).numpy(),
            preprocessing=Preprocessing(image_size=SIZE),
            task=task,
        )
        for view in VIEWS[views](tensor)
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.mean(each, axis=0), rtol=1e-5)
    assert np.ptp(each, axis=0).max() > 1e-4


def test_a_split_is_predicted_in_its_views(quarters, new_tiny):
    model = new_tiny()
    plain = predict_split(model, quarters, "val").probs
    mirrored = predict_split(model, quarters, "val", views="flip").probs
    val = quarters.val.images
    other = predict(
        model, val[:, :, ::-1], preprocessing=Preprocessing(image_size=12),
        task="multiclass",
    )  # fmt: skip
    np.testing.assert_allclose(mirrored, (plain + other) / 2, rtol=1e-5)
    with pytest.raises(InputError, match="images are resized by squash"):
        predict_split(model, quarters, "val", views="ten_crop")


@pytest.mark.slow
def test_more_devices_give_the_same_views():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, four = json.loads(done.stdout)
    assert np.shape(one) == (7, 3)
    np.testing.assert_allclose(four, one, rtol=1e-5)


def described(quarters, *names):
    """The data set with groups in some splits, and columns in all."""
    parts = {}
    for name in ("train", "val", "test"):
        part = getattr(quarters, name)
        sites = tuple(f"{i % 2}" for i in range(len(part)))
        groups = tuple(f"p{i // 2}" for i in range(len(part)))
        parts[name] = replace(
            part, columns={"site": sites}, groups=groups if name in names else None
        )
    return replace(quarters, **parts)


def predictions_of(data):
    return as_predictions(data, "val", np.full((len(data.val), 3), 1 / 3, np.float32))


def test_groups_and_columns_come_along(quarters):
    data = described(quarters, "train", "val", "test")
    predictions = predictions_of(data)
    assert predictions.groups == data.val.groups
    assert predictions.columns == {"site": data.val.columns["site"]}
    plain = predictions_of(quarters)
    assert (plain.groups, plain.columns) == (None, {})


def test_groups_of_some_splits_alone_do_not(quarters):
    """The file of predictions has one header for validation and test."""
    assert predictions_of(described(quarters, "train", "val")).groups is None
