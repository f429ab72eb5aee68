"""Data sources, one module each, and their registry."""
