"""How long a user waits before anything happens.

    python benchmarks/startup.py

`--help` of the command line; and a whole process that trains ResNet-18 for one step of
32 images at 112 pixels, validates and predicts, with an empty compilation cache and
with one that holds the programs. The latter's whole time is more than the time to its
first step, which the second goal is about.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from alternate import save
from machine import describe

PROGRAM = """
import sys, jaxmed
from jaxmed.strategies import create_strategy
data = jaxmed.load_dataset(f"npz:{sys.argv[1]}", image_size=112)
model = jaxmed.create_model("resnet18", num_classes=2)
strategy = create_strategy("full", model, epochs=1)
jaxmed.fit(model, data, strategy, batch_size=32)
jaxmed.predict_split(model, data, "test")
"""
GOALS = {"--help": 1.0, "training, warm cache": 10.0}


def main() -> None:
    arguments = parse()
    seconds: dict[str, list[float]] = {"--help": []}
    for _ in range(arguments.rounds):
        seconds["--help"].append(
            measure([sys.executable, "-m", "jaxmed.experiments", "--help"], {})
        )
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "scans.npz")
        draw_images(data)
        command = [sys.executable, "-c", PROGRAM, str(data)]
        cache = {"JAXMED_CACHE": folder, "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax"}
        seconds["training, empty cache"] = [measure(command, cache)]
        seconds["training, warm cache"] = [
            measure(command, cache) for _ in range(arguments.rounds)
        ]
    print("| what | median | goal |\n|---|---|---|")
    for name, every in seconds.items():
        goal = f"{GOALS[name]:.0f} s" if name in GOALS else ""
        print(f"| {name} | {statistics.median(every):.2f} s | {goal} |")
    save(arguments.results, {"machine": describe(), "seconds": seconds})


def draw_images(path: Path) -> None:
    """Writes noise in MedMNIST's layout: a batch to train on, and a few to test."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 32), ("val", 8), ("test", 8)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % 2)[:, None].astype(np.uint8)
    np.savez(path, **arrays)


def measure(command: list[str], environment: dict[str, str]) -> float:
    """Returns the seconds from the start of a process to its end."""
    started = time.perf_counter()
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment
    )
    return time.perf_counter() - started


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    results = Path("runs/benchmarks/startup.json")
    parser.add_argument("--results", type=Path, default=results)
    return parser.parse_args()


if __name__ == "__main__":
    main()
