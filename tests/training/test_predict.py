"""What goes from a split into its predictions."""

from dataclasses import replace

import numpy as np

from jaxmed.training.predict import as_predictions


def described(quarters, *names):
    """The data set with groups in some splits, and columns in all."""
    parts = {}
    for name in ("train", "val", "test"):
        part = getattr(quarters, name)
        sites = tuple(f"{i % 2}" for i in range(len(part)))
        groups = tuple(f"p{i // 2}" for i in range(len(part)))
        parts[name] = replace(
            part, columns={"site": sites}, groups=groups if name in names else None
        )
    return replace(quarters, **parts)


def predictions_of(data):
    return as_predictions(data, "val", np.full((len(data.val), 3), 1 / 3, np.float32))


def test_groups_and_columns_come_along(quarters):
    data = described(quarters, "train", "val", "test")
    predictions = predictions_of(data)
    assert predictions.groups == data.val.groups
    assert predictions.columns == {"site": data.val.columns["site"]}
    plain = predictions_of(quarters)
    assert (plain.groups, plain.columns) == (None, {})


def test_groups_of_some_splits_alone_do_not(quarters):
    """The file of predictions has one header for validation and test."""
    assert predictions_of(described(quarters, "train", "val")).groups is None
