"""Rows of a phase's epochs, and the images that its steps see."""

import numpy as np

from jaxmed.runtime.sharding import data_mesh
from jaxmed.training.config import TrainingConfig
from jaxmed.training.inputs.feeds import StreamingFeed
from jaxmed.training.inputs.pipeline import PhaseInputs

COUNT, VIEWS, BATCH = 50, 4, 8
MAPS = np.arange(COUNT * VIEWS, dtype=np.float32)[:, None]
LABELS = np.arange(COUNT, dtype=np.int32)
ROW_LABELS = np.tile(LABELS, VIEWS)


def inputs(seed, views=VIEWS):
    return PhaseInputs(
        feed=StreamingFeed(
            images=MAPS, labels=ROW_LABELS, batch_size=BATCH, accumulate=2,
            mesh=data_mesh(),
        ),
        val=MAPS,
        labels=LABELS,
        config=TrainingConfig(seed=seed, batch_size=BATCH, accumulate=2),
        start_stage="head",
        views=views,
    )  # fmt: skip


def test_every_epoch_shows_another_view_of_each_image():
    cached, order = inputs(seed=3), []
    epochs = [cached.rows(epoch) for epoch in range(1, VIEWS + 2)]
    for epoch, rows in enumerate(epochs, 1):
        order = inputs(seed=3, views=1).rows(epoch)
        np.testing.assert_array_equal(rows % COUNT, order)
        assert rows.dtype == np.int32
        # Not the same view of all images at a time.
        assert len(np.unique(rows // COUNT)) == VIEWS
    views = [rows[np.argsort(rows % COUNT)] // COUNT for rows in epochs]
    seen = np.sort(np.stack(views[:VIEWS]), axis=0)
    assert (seen == np.arange(VIEWS)[:, None]).all()
    np.testing.assert_array_equal(views[VIEWS], views[0])
    other = inputs(seed=4).rows(1)
    assert not np.array_equal(other[np.argsort(other % COUNT)] // COUNT, views[0])


def test_the_images_of_a_step_are_those_of_its_dispatch():
    cached = inputs(seed=3)
    for step, dispatch in enumerate(cached.steps(epoch=2)):
        batch = dispatch.arguments["batch"]
        shown = np.asarray(batch.labels)[np.asarray(batch.mask) > 0]
        np.testing.assert_array_equal(cached.images_of(2, step), shown)
    assert step == 3
    (last,) = cached.steps(epoch=2, start=3)
    np.testing.assert_array_equal(last.arguments["batch"].images, batch.images)
