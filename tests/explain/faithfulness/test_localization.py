"""Maps against masks and boxes, on maps whose numbers are plain to see."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from jaxmed.errors import InputError
from jaxmed.explain.faithfulness.localization import (
    box_masks,
    energy_inside,
    overlap,
    pointing_game,
)


def one_map(*points, shape=(6, 8)):
    cam = np.zeros((1, *shape), np.float32)
    for y, x, value in points:
        cam[0, y, x] = value
    return cam


MASK = box_masks(np.array([[2, 1, 5, 4]]), (6, 8))  # rows 1 to 3, columns 2 to 4


def test_boxes():
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:5] = True
    assert (MASK[0] == expected).all()
    half = box_masks(np.array([[0.4, 0, 1.6, 1], [0, 0, 0, 0]]), (2, 3))
    assert half.tolist() == [
        [[True, True, False], [False, False, False]],
        [[False] * 3] * 2,
    ]


@pytest.mark.parametrize(
    ("cam", "tolerance", "hit"),
    [
        (one_map((2, 3, 1.0), (5, 7, 0.9)), 0, True),
        (one_map((2, 3, 0.9), (5, 7, 1.0)), 0, False),
        (one_map((2, 6, 1.0)), 1.9, False),
        (one_map((2, 6, 1.0)), 2, True),
        (one_map(), 100, False),
    ],
)
def test_pointing_game(cam, tolerance, hit):
    assert pointing_game(cam, MASK, tolerance=tolerance).tolist() == [hit]
    assert not pointing_game(cam, np.zeros_like(MASK), tolerance=tolerance).any()


def test_energy():
    cams = np.concatenate([one_map((2, 3, 1.0), (5, 7, 0.5)), one_map()])
    shares = energy_inside(cams, np.repeat(MASK, 2, axis=0))
    assert shares[0] == pytest.approx(2 / 3)
    assert np.isnan(shares[1])


def test_overlap_is_scikit_learns():
    random = np.random.default_rng(0)
    cams = random.random((4, 20, 20)).astype(np.float32)
    masks = random.random((4, 20, 20)) < 0.3
    cams[masks] += 0.2
    expected = [
        jaccard_score(m.ravel(), (c >= 0.6 * c.max()).ravel())
        for c, m in zip(cams, masks, strict=True)
    ]
    assert overlap(cams, masks, threshold=0.6) == pytest.approx(expected)
    assert overlap(np.zeros_like(cams), masks).tolist() == [0, 0, 0, 0]
    assert overlap(masks.astype(np.float32), masks).tolist() == [1, 1, 1, 1]


def test_refused():
    with pytest.raises(InputError, match=r"boolean masks .* got float32"):
        pointing_game(one_map(), one_map())
    with pytest.raises(InputError, match=r"shape \(1, 6, 8\) for maps of \(1, 7, 8\)"):
        energy_inside(one_map(shape=(7, 8)), MASK)
    with pytest.raises(InputError, match=r"in \(0, 1\], got 0"):
        overlap(one_map(), MASK, threshold=0)
