"""Weights between PyTorch and jaxmed: conversion, downloads and verification.

Importing this package imports neither torch nor jax; its functions import what they
need when they are called.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
