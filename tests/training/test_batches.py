import numpy as np

from jaxmed.training.batches import batches, shuffled, windows


def test_every_image_is_in_one_batch_of_one_shape():
    order = shuffled(10, seed=3, epoch=1)
    cut = list(batches(order, 4, devices=3))
    assert [indices.shape for indices, _ in cut] == [(6,)] * 3
    seen = np.concatenate([indices[mask == 1] for indices, mask in cut])
    np.testing.assert_array_equal(seen, order)
    assert [int(mask.sum()) for _, mask in cut] == [4, 4, 2]
    padding = np.concatenate([indices[mask == 0] for indices, mask in cut])
    assert set(padding) == {order[0]}


def test_order_depends_on_seed_and_epoch_only():
    first = shuffled(50, seed=0, epoch=1)
    np.testing.assert_array_equal(first, shuffled(50, seed=0, epoch=1))
    for seed, epoch in ((0, 2), (1, 1)):
        assert not np.array_equal(first, shuffled(50, seed=seed, epoch=epoch))
    np.testing.assert_array_equal(np.sort(first), np.arange(50))


def test_windows_are_the_batches_filled_up_with_padding():
    order = shuffled(21, seed=0, epoch=1)
    plain = list(batches(order, 4, devices=3))
    stacked = list(windows(order, 4, devices=3, accumulate=4))
    assert [indices.shape for indices, _ in stacked] == [(4, 6)] * 2
    rows = [row for indices, _ in stacked for row in indices]
    masks = [row for _, mask in stacked for row in mask]
    for i, (indices, mask) in enumerate(plain):
        np.testing.assert_array_equal(rows[i], indices)
        np.testing.assert_array_equal(masks[i], mask)
    assert len(plain) == 6
    assert not np.any(masks[6:])
    assert masks[0].dtype == np.float32
    assert rows[-1].dtype == np.int32
    assert np.isin(rows[6:], order).all()
