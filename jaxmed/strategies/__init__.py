"""Fine-tuning strategies: paths of parameters, to groups, to optimizers."""

from jaxmed.strategies.optimizers import Optimizer
from jaxmed.strategies.phase import Group, Phase
from jaxmed.strategies.presets.settings import Settings
from jaxmed.strategies.registry import create_strategy, list_strategies, options_of
from jaxmed.strategies.schedules import Schedule
from jaxmed.strategies.strategy import Strategy

__all__ = [
    "Group",
    "Optimizer",
    "Phase",
    "Schedule",
    "Settings",
    "Strategy",
    "create_strategy",
    "list_strategies",
    "options_of",
]
