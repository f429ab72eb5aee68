"""Arguments that all compared programs take."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def program_parser(
    description: str | None, tasks: Sequence[str] = ("frozen", "partial", "full")
) -> argparse.ArgumentParser:
    """Returns a parser, for a program to add what it alone takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--images", type=int, default=0, help="0 for all")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--out", type=Path, required=True)
    return parser
