"""`predict` on a folder of 10,000 and one of 100,000 JPEGs: seconds, and memory.

A run of a narrow network on drawn images is made first, and the folders are links to
some of them. Each line is of a process of its own, which is `predict` as it is called
from a shell; its memory is the highest that the system saw.

    python benchmarks/predicting.py --files 10000,100000
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import machine
import numpy as np
from PIL import Image

SIDE = 28
RECIPE = """
[data]
source = "folder:{images}"
image_size = 28
[model]
backbone = "resnet10_narrow"
[train]
strategy = "full"
options = {{ epochs = 1, learning_rate = 1e-3 }}
[evaluate]
resamples = 100
[explain]
images = 0
"""
COMMAND = [sys.executable, "-m", "jaxmed.experiments"]


def draw(folder: Path) -> list[Path]:
    """Draws FOLDER/{train,val,test}/{a,b}; returns the files."""
    rng, files = np.random.default_rng(0), []
    for split, count in (("train", 60), ("val", 40), ("test", 40)):
        for i in range(count):
            path = folder / split / "ab"[i % 2] / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 160, (SIDE, SIDE, 3), np.uint8)
            pixels[..., i % 2] += 60
            Image.fromarray(pixels).save(path)
            files.append(path)
    return files


def train(folder: Path) -> tuple[Path, list[Path]]:
    """Trains a run on drawn images; returns its folder, and the images."""
    files = draw(folder / "images")
    recipe = folder / "drawn.toml"
    recipe.write_text(RECIPE.format(images=folder / "images"), encoding="utf-8")
    subprocess.run([*COMMAND, "run", recipe, "--out", folder], check=True, stdout=2)
    return folder / "drawn" / "main" / "seed-0", files


def measure(run: Path, scans: Path, out: Path) -> dict[str, float]:
    """Predicts a folder in a process of its own."""
    started = time.perf_counter()
    child = subprocess.Popen([*COMMAND, "predict", run, scans, "--out", out])
    _, status, used = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"predict ended with {os.waitstatus_to_exitcode(status)}")
    with out.open(encoding="utf-8", newline="") as file:
        rows = sum(not row["error"] for row in csv.DictReader(file))
    return {
        "rows": rows,
        "seconds": seconds,
        "processor_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss * 1024 / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", default="10000,100000", help="numbers of files")
    parser.add_argument("--results", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, originals = train(folder)
        for count in map(int, arguments.files.split(",")):
            scans = folder / f"scans-{count}"
            scans.mkdir()
            for i in range(count):
                os.link(originals[i % len(originals)], scans / f"{i:06d}.jpg")
            found[count] = measure(run, scans, folder / f"{count}.csv")
            numbers = "  ".join(f"{k} {v:.6g}" for k, v in found[count].items())
            print(f"{count:,} files: {numbers}", flush=True)
    for what, words in machine.describe().items():
        print(f"{what}: {words}")
    if arguments.results:
        content = {"machine": machine.describe(), "files": found}
        arguments.results.write_text(json.dumps(content, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
