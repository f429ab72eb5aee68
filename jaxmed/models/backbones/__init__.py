"""Backbones, one family a module."""
