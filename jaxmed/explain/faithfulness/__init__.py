"""Measures of how faithful saliency maps are to the model."""

from jaxmed.explain.faithfulness.insertion_deletion import deletion, insertion
from jaxmed.explain.faithfulness.localization import (
    box_masks,
    energy_inside,
    overlap,
    pointing_game,
)
from jaxmed.explain.faithfulness.measure import Faithfulness, measure_faithfulness
from jaxmed.explain.faithfulness.randomization import randomize
from jaxmed.explain.faithfulness.road import road

__all__ = [
    "Faithfulness",
    "box_masks",
    "deletion",
    "energy_inside",
    "insertion",
    "measure_faithfulness",
    "overlap",
    "pointing_game",
    "randomize",
    "road",
]
