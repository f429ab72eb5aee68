"""Classifiers: torchvision's architectures and parameter names in Flax."""

from jaxmed.models.classifier import Classifier
from jaxmed.models.layers.normalization import norm_paths
from jaxmed.models.parameters import load, merge, split
from jaxmed.models.registry import create_model, list_models

__all__ = [
    "Classifier",
    "create_model",
    "list_models",
    "load",
    "merge",
    "norm_paths",
    "split",
]
