"""Fine-tuning strategies: paths of parameters, to groups, to optimisers."""

from jaxmed.strategies.optimizer import Optimizer
from jaxmed.strategies.presets import create_strategy, options_of
from jaxmed.strategies.strategy import Group, Phase, Strategy

__all__ = [
    "Group",
    "Optimizer",
    "Phase",
    "Strategy",
    "create_strategy",
    "options_of",
]
