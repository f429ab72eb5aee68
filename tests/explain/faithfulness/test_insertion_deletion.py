"""Insertion and deletion against a loop in torch, and what they are for."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from jaxmed.errors import InputError
from jaxmed.explain.faithfulness.insertion_deletion import (
    Curves,
    blurred,
    deletion,
    insertion,
)

SIZE, STEPS = 64, 4
CLASSES = np.array([1, 4, 0])


def their_curve(reference, start, end, maps):
    """Pixel after pixel, the highest first."""
    probs = []
    for step in range(STEPS + 1):
        count = step * SIZE * SIZE // STEPS
        mixed = start.clone()
        for image, goal, cam in zip(mixed, end, maps, strict=True):
            for pixel in sorted(range(cam.size), key=lambda p: -cam.flat[p])[:count]:
                y, x = divmod(pixel, SIZE)
                image[:, y, x] = goal[:, y, x]
        with torch.no_grad():
            found = torch.softmax(reference(mixed), dim=1)
        probs.append(found[torch.arange(3), torch.tensor(CLASSES)].numpy())
    return np.stack(probs, axis=1)


@pytest.fixture(scope="module")
def maps():
    random = np.random.default_rng(0)
    # Many equal ones: their order must be the same.
    return np.maximum(random.normal(size=(3, SIZE, SIZE)), 0).astype(np.float32)


def test_curves_are_the_papers(narrow, draw_images, maps):
    reference, model = narrow
    tensor, images = draw_images(3, SIZE)
    settings = {"steps": STEPS, "batch_size": 2}
    found = deletion(model, images, maps, CLASSES, baseline=0.2, **settings)
    expected = their_curve(reference, tensor, torch.full_like(tensor, 0.2), maps)
    assert found.probs == pytest.approx(expected, abs=1e-4)
    assert found.shares.tolist() == [0, 0.25, 0.5, 0.75, 1]
    areas = (expected[:, 1:] + expected[:, :-1]).sum(axis=1) / 2 / STEPS
    assert found.areas == pytest.approx(areas, abs=1e-4)

    found = insertion(model, images, maps, CLASSES, **settings)
    soft = torch.from_numpy(blurred(np.asarray(images))).permute(0, 3, 1, 2)
    expected = their_curve(reference, soft.contiguous(), tensor, maps)
    assert found.probs == pytest.approx(expected, abs=1e-4)


def test_the_blur_is_the_papers_at_its_size():
    """11 pixels wide, with a sigma of 5."""
    point = np.zeros((1, 224, 224, 1), np.float32)
    point[0, 100, 50, 0] = 1
    kernel = blurred(point)[0, :, :, 0]
    assert np.argwhere(kernel > 0).tolist() == [
        [y, x] for y in range(95, 106) for x in range(45, 56)
    ]
    line = gaussian_filter(np.eye(1, 11, 5)[0], 5, mode="constant", radius=5)
    assert kernel[100, 45:56] / kernel[100, 50] == pytest.approx(line / line[5])


def test_a_faithful_map_has_the_better_areas_and_its_opposite_the_worse(
    bright_is_class_1,
):
    """The image's own brightness is what the model goes by."""
    model = bright_is_class_1
    images = np.random.default_rng(0).random((2, SIZE, SIZE, 3)).astype(np.float32) ** 4
    logits = np.asarray(model(images))[:, 0]
    model.head.out.kernel[...] *= 4 / logits.mean()
    model.head.out.bias[...] = -2 * np.ones(1)
    truth = images.sum(axis=3)
    ones = np.array([1, 1])
    good, bad = (deletion(model, images, m, ones, steps=4) for m in (truth, -truth))
    assert (good.areas < bad.areas - 0.05).all()
    assert (good.probs[:, 0] > good.probs[:, -1] + 0.3).all()


def test_areas():
    shares = np.array([0, 0.5, 1])
    probs = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    assert Curves(shares, probs).areas.tolist() == [1, 0.25, 0]


def test_refused(narrow):
    images = np.zeros((2, 64, 64, 3))
    with pytest.raises(InputError, match=r"shape \(2, 64, 64\); got the shape \(2, 7"):
        deletion(narrow[1], images, np.zeros((2, 7, 7)))
    with pytest.raises(InputError, match="with NaN"):
        insertion(narrow[1], images, np.full((2, 64, 64), np.nan))
    with pytest.raises(InputError, match="steps must be at least 1"):
        deletion(narrow[1], images, np.zeros((2, 64, 64)), [0, 0], steps=0)
