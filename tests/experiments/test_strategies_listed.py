"""The help names every strategy there is."""

from dataclasses import fields

from jaxmed.experiments.config import TrainConfig
from jaxmed.strategies.registry import PRESETS


def test_help_names_every_preset():
    (declared,) = (f for f in fields(TrainConfig) if f.name == "strategy")
    for name in PRESETS:
        assert f"{name}," in declared.metadata["doc"]
