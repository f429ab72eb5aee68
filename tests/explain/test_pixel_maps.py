"""Maps of pixels against their formulas, written as loops in torch."""

import math

import numpy as np
import pytest
import torch

from jaxmed.explain.explanation import explain
from jaxmed.explain.pixel_maps import draw_noise

SIZE = 64
CLASSES = np.array([1, 4])


def score(reference, tensor):
    """Each image's logit of its class."""
    return reference(tensor)[torch.arange(len(tensor)), torch.tensor(CLASSES)]


def gradients(reference, tensor):
    tensor = tensor.clone().requires_grad_()
    score(reference, tensor).sum().backward()
    return tensor.grad


def assert_alike(maps, expected):
    expected = expected.numpy()
    assert expected.std() > 0
    assert maps == pytest.approx(
        expected, rel=0, abs=1e-4 * float(np.abs(expected).max())
    )


def test_integrated_gradients(narrow, draw_images):
    reference, model = narrow
    tensor, images = draw_images(2, SIZE)
    nodes, weights = np.polynomial.legendre.leggauss(6)
    total = torch.zeros_like(tensor)
    for node, weight in zip(nodes, weights, strict=True):
        share = float((1 + node) / 2)
        point = 0.5 + share * (tensor - 0.5)
        total += float(weight / 2) * gradients(reference, point)
    expected = (total * (tensor - 0.5)).sum(dim=1)
    settings = {"method": "integrated_gradients", "steps": 6, "baseline": 0.5}
    assert_alike(explain(model, images, CLASSES, **settings).raw, expected)


def test_integrated_gradients_add_up_to_the_difference_of_the_logits(
    narrow, draw_images
):
    """Completeness, the paper's proposition 1: closer with more steps."""
    reference, model = narrow
    tensor, images = draw_images(2, SIZE)
    with torch.no_grad():
        expected = score(reference, tensor) - score(reference, torch.zeros_like(tensor))
    shares = []
    for steps in (2, 64):
        settings = {"method": "integrated_gradients", "steps": steps}
        maps = explain(model, images, CLASSES, **settings).raw
        errors = np.abs(maps.sum(axis=(1, 2)) - expected.numpy())
        shares.append((errors / np.abs(maps).sum(axis=(1, 2))).max())
    assert shares[1] < 0.01
    assert shares[0] > 2 * shares[1]


def test_smooth_grad(narrow, draw_images):
    reference, model = narrow
    tensor, images = draw_images(2, SIZE)
    total = torch.zeros_like(tensor)
    for sample in range(3):
        drawn = np.array(draw_noise(7, np.arange(2), sample, images.shape[1:]))
        assert drawn.std() == pytest.approx(1, abs=0.05)
        noise = torch.from_numpy(drawn).permute(0, 3, 1, 2)
        spread = tensor.amax((1, 2, 3)) - tensor.amin((1, 2, 3))
        noisy = tensor + 0.1 * spread[:, None, None, None] * noise
        total += gradients(reference, noisy)
    expected = (total / 3).abs().amax(dim=1)
    settings = {"method": "smooth_grad", "samples": 3, "noise": 0.1, "seed": 7}
    assert_alike(explain(model, images, CLASSES, **settings).raw, expected)


@pytest.mark.parametrize(("window", "stride"), [(24, 20), (32, 32)])
def test_occlusion(narrow, draw_images, window, stride):
    reference, model = narrow
    tensor, images = draw_images(2, SIZE)
    total, covers = torch.zeros(2, SIZE, SIZE), torch.zeros(SIZE, SIZE)
    with torch.no_grad():
        whole = score(reference, tensor)
        count = math.ceil((SIZE - window) / stride) + 1
        for top in range(0, count * stride, stride):
            for left in range(0, count * stride, stride):
                square = slice(top, top + window), slice(left, left + window)
                covered = tensor.clone()
                covered[:, :, *square] = 0.3
                fall = whole - score(reference, covered)
                total[:, *square] += fall[:, None, None]
                covers[square] += 1
    assert covers.min() >= 1
    settings = {"method": "occlusion", "window": window, "stride": stride}
    maps = explain(model, images, CLASSES, baseline=0.3, **settings).raw
    assert_alike(maps, total / covers)


def test_what_is_predicted_of_the_whole_image_is_explained(narrow, draw_images):
    """Though something else be predicted of a covered one, or on the way to it."""
    _, model = narrow
    _, images = draw_images(2, SIZE)
    predicted = np.asarray(model(images)).argmax(axis=1)
    for settings in (
        {"method": "occlusion", "window": 64, "stride": 64, "baseline": -3.0},
        {"method": "integrated_gradients", "steps": 2, "baseline": -3.0},
    ):
        maps = explain(model, images, **settings).raw
        assert maps == pytest.approx(explain(model, images, predicted, **settings).raw)


def test_maps_are_what_speaks_for_the_class_between_0_and_1(narrow, draw_images):
    _, model = narrow
    _, images = draw_images(2, SIZE)
    settings = {"method": "integrated_gradients", "steps": 2}
    raw = explain(model, images, CLASSES, **settings).raw
    maps = explain(model, images, CLASSES, **settings).maps
    assert (raw < 0).any()
    expected = np.maximum(raw, 0) / raw.max(axis=(1, 2), keepdims=True)
    assert maps == pytest.approx(expected, abs=1e-4)
