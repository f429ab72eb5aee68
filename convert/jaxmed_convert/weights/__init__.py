"""Pretrained weights: published ones, downloads, cache, and loading into a model."""
