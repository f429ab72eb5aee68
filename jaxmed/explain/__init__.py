"""Saliency maps, pictures of them, and measures of their faithfulness."""

from jaxmed.explain.explain import explain, grad_cam
from jaxmed.explain.methods import METHODS
from jaxmed.explain.overlay import overlay

__all__ = [
    "METHODS",
    "explain",
    "grad_cam",
    "overlay",
]
