"""Learning-rate range test and its suggestion."""
