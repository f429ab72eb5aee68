"""Layers that differ from Flax's: convolution, normalization, pooling."""
