"""Weights between PyTorch and jaxmed: conversion, downloads and proof of both.

Importing this package imports neither torch nor jax; its functions import what they
need when they are called.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxmed_convert.conversion import Report, from_torch, to_torch
    from jaxmed_convert.weights.pretrained import StartingWeights, initialize

_HOMES = {
    "Report": "conversion",
    "from_torch": "conversion",
    "to_torch": "conversion",
    "StartingWeights": "starting_weights",
    "initialize": "starting_weights",
}

__all__ = ["Report", "StartingWeights", "from_torch", "initialize", "to_torch"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
