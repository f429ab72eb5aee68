"""Recipes: their schema, validation, command-line flags and files."""

from jaxmed.config.recipes import Recipe, find_recipe, load_recipe, resolve_recipe
from jaxmed.config.schema import ExperimentConfig
from jaxmed.config.sections import build_config

__all__ = [
    "ExperimentConfig",
    "Recipe",
    "build_config",
    "find_recipe",
    "load_recipe",
    "resolve_recipe",
]
