"""Confidence intervals and tests: bootstrap, DeLong, McNemar, Holm."""
