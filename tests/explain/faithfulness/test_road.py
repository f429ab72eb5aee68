"""ROAD against pytorch-grad-cam's."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.perturbation_confidence import (
    PerturbationConfidenceMetric,
    RemoveLeastRelevantFirst,
    RemoveMostRelevantFirst,
)
from pytorch_grad_cam.metrics.road import NoisyLinearImputer
from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget
from scipy.stats import rankdata

from jaxmed.errors import InputError
from jaxmed.explain.faithfulness.road import Road, impute, road

# pytorch-grad-cam mixes NumPy and torch in a way that NumPy will not take for long.
pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")

SIZE = 60  # 3600 pixels, of which every tenth is a whole number


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_imputed_pixels_are_pytorch_grad_cams(share):
    random = np.random.default_rng(0)
    image = random.normal(size=(20, 30, 3)).astype(np.float32)
    removed = random.random((20, 30)) < share
    removed[:8, :9] = True  # a hole in a corner
    expected = NoisyLinearImputer(noise=0)(
        torch.from_numpy(image.transpose(2, 0, 1)), torch.from_numpy(1.0 - removed)
    )
    filled = impute(image, removed, noise=0)
    assert filled == pytest.approx(expected.numpy().transpose(1, 2, 0), abs=1e-5)
    assert (filled[~removed] == image[~removed]).all()


def test_noise_is_added_to_what_is_imputed_alone():
    image, removed = np.zeros((40, 40, 3), np.float32), np.zeros((40, 40), bool)
    removed[10:30, 10:30] = True
    noisy = impute(image, removed, noise=0.1, seed=3)
    assert noisy[removed].std() == pytest.approx(0.1, rel=0.1)
    assert (noisy[~removed] == 0).all()
    assert (impute(image, removed, noise=0.1, seed=3) == noisy).all()
    assert (impute(image, removed, noise=0.1, seed=4) != noisy)[removed].all()


def test_changes_are_pytorch_grad_cams(narrow, draw_images):
    reference, model = narrow
    tensor, images = draw_images(2, SIZE)
    # Large regions, so that what is removed is missed, and no two pixels alike.
    order = rankdata(np.asarray(images).sum(axis=3).reshape(2, -1), "ordinal", axis=1)
    maps = (order / SIZE**2).reshape(2, SIZE, SIZE).astype(np.float32)
    classes = reference(tensor).argmax(dim=1).numpy()
    targets = [ClassifierOutputSoftmaxTarget(c) for c in classes]
    shares = (0.1, 0.7)
    imputer = NoisyLinearImputer(noise=0)
    expected = {}
    for remove in (RemoveMostRelevantFirst, RemoveLeastRelevantFirst):
        for share in shares:
            # The percentile counts what stays.
            metric = PerturbationConfidenceMetric(remove(100 * (1 - share), imputer))
            expected[remove, share] = metric(tensor, maps, targets, reference)
    found = road(model, images, maps, classes, shares=shares, noise=0)
    most = [expected[RemoveMostRelevantFirst, share] for share in shares]
    least = [expected[RemoveLeastRelevantFirst, share] for share in shares]
    assert np.abs(most).max() > 0.01
    assert found.most == pytest.approx(np.stack(most, axis=1), abs=1e-4)
    assert found.least == pytest.approx(np.stack(least, axis=1), abs=1e-4)
    combined = (np.mean(least, axis=0) - np.mean(most, axis=0)) / 2
    assert found.scores == pytest.approx(combined, abs=1e-4)


def test_a_map_of_zeros_loses_no_more_than_its_share(narrow, draw_images):
    _, images = draw_images(1, SIZE)
    zeros = np.zeros((1, SIZE, SIZE), np.float32)
    found = road(narrow[1], images, zeros, [1], shares=(0.5,))
    assert np.isfinite(found.most).all()


def test_scores_and_what_is_refused(narrow):
    scores = Road((0.5,), np.array([[-0.6], [0.0]]), np.array([[0.0], [-0.6]])).scores
    assert scores == pytest.approx([0.3, -0.3])
    images, maps = np.zeros((1, 64, 64, 3)), np.zeros((1, 64, 64))
    with pytest.raises(InputError, match=r"between 0 and 1, got \(0.5, 1\)"):
        road(narrow[1], images, maps, [0], shares=(0.5, 1))
