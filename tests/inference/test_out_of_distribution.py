"""Out-of-distribution scores, against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from jaxmed.errors import InputError
from jaxmed.inference.out_of_distribution import fit_features
from jaxmed.runs.detector import OOD_THRESHOLD, read_detector, write_detector

RNG = np.random.default_rng(0)
WIDTHS = (2, 4)
SCALES = np.array([0.1, 0.5, 1, 2, 4, 8])


def draw(count, away=0.0):
    return (3 + RNG.normal(size=(count, 6)) * SCALES + away).astype(np.float32)


def test_of_each_layer_it_is_mahalanobis_distance_in_deviations_of_val():
    features, val, new = draw(60), draw(40), draw(20)
    detector = fit_features(features, WIDTHS, val)
    deviations = []
    for columns in (slice(0, 2), slice(2, 6)):
        part = features[:, columns].astype(float)
        mean = part.mean(axis=0)
        precision = LedoitWolf(assume_centered=True).fit(part - mean).precision_
        of_val, of_new = (
            np.array([mahalanobis(x, mean, precision) for x in images[:, columns]])
            for images in (val, new)
        )
        deviations.append((of_new - of_val.mean()) / of_val.std())
    expected = np.max(deviations, axis=0)
    np.testing.assert_allclose(detector.measure(new), expected, rtol=1e-3, atol=1e-4)


def test_one_layer_that_is_unlike_is_enough():
    detector = fit_features(draw(200), WIDTHS, draw(200))
    for column in (0, 5):
        odd = draw(20)
        odd[:, column] += 20 * SCALES[column]
        assert (detector.score(odd) == 1).all()


def test_the_score_is_the_share_of_val_that_is_less_far_away():
    val = draw(200)
    detector = fit_features(draw(90), WIDTHS, val)
    away = detector.measure(val)
    expected = [(away < one).mean() for one in away]
    np.testing.assert_array_equal(detector.score(val), expected)
    assert (detector.score(draw(1000)) > OOD_THRESHOLD).mean() < 0.05
    assert (detector.score(draw(50, away=200.0)) == 1).all()


def test_fewer_images_than_features_and_features_that_never_differ_are_no_obstacle():
    features = np.zeros((5, 40), np.float32)
    features[:, :20] = RNG.normal(size=(5, 20))
    detector = fit_features(features, (40,), features)
    assert np.isfinite(detector.measure(features)).all()
    odd = features[:1].copy()
    odd[0, 30] = 50
    assert detector.score(odd) == 1
    same = np.ones((4, 3), np.float32)
    constant = fit_features(same, (3,), same)
    assert (constant.score(same) == 0).all()
    assert (constant.score(same + 1) == 1).all()


def test_it_is_stored_and_read_back(tmp_path):
    features = draw(60)
    detector = fit_features(features, WIDTHS, draw(30))
    path = tmp_path / "out_of_distribution.npz"
    write_detector(path, detector)
    content = path.read_bytes()
    np.testing.assert_array_equal(
        read_detector(path).score(features), detector.score(features)
    )
    write_detector(path, detector)
    assert path.read_bytes() == content
    path.write_bytes(content[:100])
    with pytest.raises(InputError, match="cannot be read"):
        read_detector(path)
