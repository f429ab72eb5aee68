"""Names of splits, and names that are none."""

import pytest

from jaxmed.data.splits.split_names import find_role

NAMES = {
    "train": ("train", "Train", "TRAIN", "Training", "training_set", "train-images"),
    "val": ("val", "Valid", "VALIDATION", "dev", "val_data", "Validation Set"),
    "test": ("test", "Testing", "TEST SET", "test_images", "test-split"),
}


@pytest.mark.parametrize("split", NAMES)
def test_names_of_splits(split):
    assert {find_role(name) for name in NAMES[split]} == {split}


@pytest.mark.parametrize(
    "name", ["", "tested", "normal", "trained", "valid2", "test 1", "images", "set"]
)
def test_names_of_no_split(name):
    assert find_role(name) is None
