"""Checkpoint files: reading them safely and finding the network in them."""
