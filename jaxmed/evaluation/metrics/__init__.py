"""Metrics of classification, ranking, probabilities and decisions."""
