"""Input of the training step: resident or streamed images, or cached activations."""
