"""A folder of 100,000 JPEGs: seconds until the first batch, and memory.

Draws some hundred images and links to them under many names, which fills no disk and
takes no work from the decoder. Every line is of a process of its own: the first has no
index of the files, the second finds it in the cache folder.

    python benchmarks/many_files.py --files 100000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from jaxmed.data.sources.registry import load_dataset

SIDE, BATCH = 256, 32


def draw(root: Path, files: int, drawn: int) -> Path:
    """Makes ROOT/scans/{train,val,test}/{a,b}, four fifths of the files in train."""
    originals = []
    grid = np.linspace(0, 6, SIDE)
    for i in range(drawn):
        rng = np.random.default_rng(i)
        waves = np.sin(np.outer(grid, rng.normal(size=SIDE).cumsum() / 40))
        pixels = 127 + 90 * waves[..., None] + rng.normal(0, 8, (SIDE, SIDE, 3))
        originals.append(root / f"{i}.jpg")
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(originals[-1], quality=90)
    scans, splits = root / "scans", ("train",) * 8 + ("val", "test")
    for i in range(files):
        folder = scans / splits[i % 10] / "ab"[i // 10 % 2]
        folder.mkdir(parents=True, exist_ok=True)
        os.link(originals[i % drawn], folder / f"{i:06d}.jpg")
    return scans


def measure(folder: Path, seconds: float) -> dict[str, float]:
    """Loads the folder, and decodes batches in a random order for some seconds."""
    started, worked = time.perf_counter(), time.process_time()
    data = load_dataset(f"folder:{folder}", image_size=224, memory_budget=0)
    loaded, worked = time.perf_counter(), time.process_time() - worked
    images = data.train.images
    order = np.random.default_rng(0).permutation(len(images))
    images[order[:BATCH]]
    first, busy, seen = time.perf_counter(), sum(os.times()[:2]), BATCH
    memory = [resident()]
    while time.perf_counter() - first < seconds and seen < len(order):
        seen += len(images[order[seen : seen + BATCH]])
        memory.append(resident())
    spent = time.perf_counter() - first
    return {
        "load_s": loaded - started,
        # The same without what other programs took of the processors.
        "load_cpu_s": worked,
        "first_batch_s": first - loaded,
        "images_seen": seen,
        "images_per_s": (seen - BATCH) / spent,
        "processors_busy": (sum(os.times()[:2]) - busy) / spent,
        "resident_mb": memory[0],
        # While the first tenth is seen, pools of memory fill.
        "growth_mb": max(memory) - memory[len(memory) // 10],
    }


def resident() -> float:
    """Returns the memory that this process holds, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--drawn", type=int, default=200, help="different images")
    parser.add_argument("--seconds", type=float, default=20, help="of decoding")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    if arguments.folder:
        print(json.dumps(measure(arguments.folder, arguments.seconds)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as name:
        scans = draw(Path(name), arguments.files, arguments.drawn)
        command = [sys.executable, __file__, "--folder", str(scans)]
        command += ["--seconds", str(arguments.seconds)]
        environment = os.environ | {"JAXMED_CACHE": f"{name}/cache"}
        for turn in ("without an index", "with the index"):
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            found[turn] = json.loads(done.stdout)
            numbers = "  ".join(f"{k} {v:.6g}" for k, v in found[turn].items())
            print(f"{arguments.files:,} files, {turn}: {numbers}", flush=True)
    if arguments.results:
        arguments.results.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
