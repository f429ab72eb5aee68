"""Cached activations of frozen layers."""
