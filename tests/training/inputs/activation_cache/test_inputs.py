"""The rows that a phase is fed with."""

import numpy as np

from jaxmed.training.inputs.activation_cache.inputs import Inputs

COUNT, VIEWS = 50, 4
MAPS = np.arange(COUNT * VIEWS, dtype=np.float32)[:, None]
LABELS = np.tile(np.arange(COUNT, dtype=np.int32), VIEWS)


def test_every_epoch_shows_another_view_of_each_image():
    inputs = Inputs(MAPS, LABELS, MAPS, start_stage="head", views=VIEWS)
    order = np.random.default_rng(0).permutation(COUNT).astype(np.int32)
    epochs = [inputs.rows(order, seed=3, epoch=epoch) for epoch in range(VIEWS + 1)]
    for rows in epochs:
        np.testing.assert_array_equal(LABELS[rows], order)
        assert rows.dtype == np.int32
        # Not the same view of all images at a time.
        assert len(np.unique(rows // COUNT)) == VIEWS
    seen = np.sort(np.stack(epochs[:VIEWS]) // COUNT, axis=0)
    assert (seen == np.arange(VIEWS)[:, None]).all()
    np.testing.assert_array_equal(epochs[VIEWS], epochs[0])
    assert not np.array_equal(inputs.rows(order, seed=4, epoch=0), epochs[0])
