"""The randomization check tells maps of the model from maps of the image."""

import numpy as np
import pytest
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity as skimage_ssim

from jaxmed.explain.faithfulness.randomization import (
    randomize,
    rank_correlation,
    structural_similarity,
)
from jaxmed.models.parameters import split


def test_grad_cam_depends_on_what_was_learned(narrow, draw_images):
    _, model = narrow
    before = {p: np.array(a) for p, a in split(model).params.items()}
    _, images = draw_images(3, 64)
    found = randomize(model, images, np.array([1, 2, 4]), layer="layer3")
    assert found.stages == ("head", "layer4", "layer3", "layer2", "layer1", "stem")
    assert found.rank_correlation.shape == found.similarity.shape == (3, 6)
    assert np.nanmean(found.rank_correlation[:, 1:]) < 0.7
    assert (found.similarity < 0.999).all()
    assert all((before[p] == a).all() for p, a in split(model).params.items())


def test_a_map_that_ignores_the_stages_above_it_is_found_out(narrow, draw_images):
    """Eigen-CAM of layer2 cannot change before layer2 itself is random."""
    _, images = draw_images(2, 64)
    settings = {"method": "eigen_cam", "layer": "layer2"}
    found = randomize(narrow[1], images, np.array([1, 2]), **settings)
    above = found.stages.index("layer2")
    assert found.rank_correlation[:, :above] == pytest.approx(1, abs=1e-6)
    assert found.similarity[:, :above] == pytest.approx(1, abs=1e-6)
    assert (found.rank_correlation[:, above] < 0.99).all()


def test_similarities_are_those_of_scipy_and_scikit_image():
    random = np.random.default_rng(0)
    a = random.random((30, 41)).astype(np.float32)
    a[:, :10] = 0  # equal ranks
    b = np.clip(a + 0.2 * random.normal(size=a.shape), 0, 1).astype(np.float32)
    expected = spearmanr(a.ravel(), b.ravel()).statistic
    assert rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(rank_correlation(a, np.zeros_like(a)))
    expected = skimage_ssim(np.float64(a), np.float64(b), data_range=1)
    assert structural_similarity(a, b) == pytest.approx(expected, abs=1e-9)
    assert structural_similarity(a, a) == pytest.approx(1)
