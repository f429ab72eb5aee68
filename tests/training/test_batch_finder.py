"""The batch-size finder: sizes, memory that grows, and a model left alone."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxmed.errors import InputError
from jaxmed.experiments.commands.find_batch_size import format_measures
from jaxmed.models.parameters import split
from jaxmed.training import batch_finder
from jaxmed.training.batch_finder import BatchMeasure, find_batch_sizes


def test_sizes_double_until_the_data_ends_and_nothing_changes(
    new_tiny, quarters, monkeypatch
):
    monkeypatch.setattr(batch_finder, "SECONDS", 0.0)
    model = new_tiny()
    before = jax.device_get(split(model))
    phase, found = find_batch_sizes(model, quarters, "two_phase", loss="focal")
    assert phase.name == "all"
    assert [one.batch_size for one in found] == [8, 16]
    assert all(one.images_per_second for one in found)
    assert found[0].memory < found[1].memory
    after = jax.device_get(split(model))
    for one, other in zip(
        jax.tree.leaves(before[1:]), jax.tree.leaves(after[1:]), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    few = dataclasses.replace(quarters, train=quarters.train.take(np.arange(5)))
    assert [m.batch_size for m in find_batch_sizes(model, few, "full")[1]] == [5]


@pytest.mark.slow
def test_it_ends_with_the_first_size_that_does_not_fit(new_tiny, quarters, monkeypatch):
    monkeypatch.setattr(batch_finder, "SECONDS", 0.0)
    _, found = find_batch_sizes(new_tiny(), quarters, "full")
    room = found[1].memory - 1
    monkeypatch.setattr(batch_finder, "free_memory", lambda mesh: room)
    _, found = find_batch_sizes(new_tiny(), quarters, "full")
    assert [one.images_per_second is None for one in found] == [False, True]


def test_what_fit_would_refuse_is_refused(new_tiny, quarters):
    with pytest.raises(InputError, match="3 classes, and the model 5 logits"):
        find_batch_sizes(new_tiny(5), quarters, "full")


def test_the_table_names_the_largest_and_the_fastest():
    sizes = ((8, 100.0), (16, 150.0), (32, 140.0), (64, None))
    found = [
        BatchMeasure(batch_size=n, memory=n * 10**8, images_per_second=speed)
        for n, speed in sizes
    ]
    table = format_measures(found)
    assert "64  6.40 GB  does not fit" in table
    assert table.endswith("Largest that fits: 32. Fastest: 16.")
    assert format_measures(found[-1:]).endswith(
        "None fits: set a smaller data.image_size."
    )
