"""Out-of-distribution scores, against scikit-learn and SciPy."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from jaxmed.errors import InputError
from jaxmed.inference.out_of_distribution import fit_features
from jaxmed.runs.detector import OOD_THRESHOLD, read_detector, write_detector

RNG = np.random.default_rng(0)
MEANS = 3 * RNG.normal(size=(3, 6))
SCALES = np.array([0.1, 0.5, 1, 2, 4, 8])


def draw(count, away=0.0):
    labels = np.arange(count) % 3
    noise = RNG.normal(size=(count, 6)) * SCALES
    return (MEANS[labels] + noise + away).astype(np.float32), labels


def test_distances_are_mahalanobis_of_the_nearest_class():
    features, labels = draw(60)
    new, _ = draw(20)
    detector = fit_features(features, labels, draw(30)[0])
    means = [features[labels == c].astype(float).mean(axis=0) for c in range(3)]
    centered = features.astype(float) - np.array(means)[labels]
    precision = LedoitWolf(assume_centered=True).fit(centered).precision_
    expected = [min(mahalanobis(x, m, precision) for m in means) for x in new]
    np.testing.assert_allclose(detector.measure(new), expected, rtol=1e-4)


def test_of_several_labels_the_distance_is_from_the_mean_of_all():
    features, _ = draw(60)
    labels = RNG.integers(-1, 2, (60, 4))
    detector = fit_features(features, labels, draw(30)[0])
    wide = features.astype(float)
    mean = wide.mean(axis=0)
    precision = LedoitWolf(assume_centered=True).fit(wide - mean).precision_
    expected = [mahalanobis(x, mean, precision) for x in features]
    np.testing.assert_allclose(detector.measure(features), expected, rtol=1e-4)


def test_the_score_is_the_share_of_val_that_is_less_far_away():
    features, labels = draw(90)
    val, _ = draw(200)
    detector = fit_features(features, labels, val)
    away = detector.measure(val)
    expected = [(away < one).mean() for one in away]
    np.testing.assert_array_equal(detector.score(val), expected)
    like, _ = draw(1000)
    assert (detector.score(like) > OOD_THRESHOLD).mean() < 0.05
    far, _ = draw(50, away=20.0)
    assert (detector.score(far) == 1).all()


def test_fewer_images_than_features_and_features_that_never_differ_are_no_obstacle():
    features = np.zeros((5, 40), np.float32)
    features[:, :20] = RNG.normal(size=(5, 20))
    detector = fit_features(features, np.array([0, 0, 0, 1, 1]), features)
    assert np.isfinite(detector.measure(features)).all()
    odd = features[:1].copy()
    odd[0, 30] = 50
    assert detector.score(odd) == 1
    same = np.ones((4, 3), np.float32)
    constant = fit_features(same, np.zeros(4, int), same)
    assert (constant.score(same) == 0).all()
    assert (constant.score(same + 1) == 1).all()


def test_it_is_stored_and_read_back(tmp_path):
    features, labels = draw(60)
    detector = fit_features(features, labels, draw(30)[0])
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
