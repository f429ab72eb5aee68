"""Inference: forward pass, features, predictor, out-of-distribution score."""
