"""Experiments from the command line: `python -m jaxmed.experiments --help`."""
