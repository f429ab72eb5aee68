"""JPEGs to arrays: jaxmed's threads against torch's DataLoader with two workers.

Both give every image of a folder as uint8, resized to one size, in batches, and both
read the same files in the same order; they run in turns, and what counts is the ratio
of the medians. Each run starts its own workers, as every epoch of a DataLoader does.

    python benchmarks/decoding.py PATH/chest_xray

PATH holds {train,val,test}/CLASS/IMAGE. Before it is timed, a batch of both is
compared pixel by pixel.
"""

import argparse
import json
import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from jaxmed.data.dataset import SPLITS
from jaxmed.data.images.lazy import LazyImages, join_images
from jaxmed.data.sources.registry import load_dataset
from jaxmed.runtime.memory import count_processors


class Files(torch.utils.data.Dataset):
    """Image files as a tutorial's data set has them."""

    def __init__(self, images: LazyImages):
        size = (images.image_size, images.image_size)
        self.paths = [str(images.root / name) for name in images.files]
        self.transform = v2.Compose([v2.Resize(size), v2.PILToTensor()])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.transform(default_loader(self.paths[index]))


def run_jaxmed(images: LazyImages, batch_size: int) -> int:
    """Decodes all images, and returns how many values they have."""
    rows = np.arange(len(images))
    batches = range(0, len(images), batch_size)
    return sum(images[rows[i : i + batch_size]].size for i in batches)


def run_torch(loader: torch.utils.data.DataLoader) -> int:
    """Decodes all images, and returns how many values they have."""
    return sum(batch.numel() for batch in loader)


def measure(arguments: argparse.Namespace) -> dict:
    """Times both in turns."""
    data = load_dataset(
        f"folder:{arguments.folder}",
        image_size=arguments.image_size,
        memory_budget=0,
    )
    images = join_images([getattr(data, name).images for name in SPLITS])
    assert isinstance(images, LazyImages), "a memory budget of 0"
    images = images.take(np.arange(min(len(images), arguments.images)))
    loader = torch.utils.data.DataLoader(
        Files(images),
        batch_size=arguments.batch_size,
        num_workers=arguments.workers,
    )
    theirs = next(iter(loader)).permute(0, 2, 3, 1).numpy()
    ours = images[: len(theirs)]
    if images.channels == 1:
        ours = ours.repeat(3, axis=3)
    assert np.array_equal(ours, theirs), "both give the same pixels"
    speeds = {"jaxmed": [], "torch": []}
    work = {"jaxmed": [], "torch": []}
    runs = {
        "jaxmed": lambda: run_jaxmed(images, arguments.batch_size),
        "torch": lambda: run_torch(loader),
    }
    for _ in range(arguments.rounds):
        for name, run in runs.items():
            started, worked = time.perf_counter(), processor_seconds()
            run()
            speeds[name].append(len(images) / (time.perf_counter() - started))
            work[name].append(1e3 * (processor_seconds() - worked) / len(images))
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    return {
        "images": len(images),
        "image_size": arguments.image_size,
        "batch_size": arguments.batch_size,
        "workers": arguments.workers,
        "images_per_second": speeds,
        "medians": medians,
        "processor_ms_per_image": {
            name: statistics.median(found) for name, found in work.items()
        },
        "ratio": medians["jaxmed"] / medians["torch"],
        "machine": describe_machine(),
    }


def processor_seconds() -> float:
    """Returns what this process and its finished workers have used."""
    return sum(os.times()[:4])


def describe_machine() -> dict:
    """Returns what the numbers depend on."""
    packages = ("jaxmed", "numpy", "pillow", "torch", "torchvision")
    return {
        "processors": count_processors(),
        "load": os.getloadavg()[0],
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="with {train,val,test}/CLASS/IMAGE")
    parser.add_argument("--images", type=int, default=10**9, help="at most so many")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--rounds", type=int, default=5, help="turns of both")
    parser.add_argument("--results", type=Path, help="a JSON file for the numbers")
    arguments = parser.parse_args()
    found = measure(arguments)
    print("  ".join(f"{name} {value}" for name, value in found["machine"].items()))
    print(f"{found['images']:,} images, {arguments.rounds} rounds, images per second:")
    for name, speeds in found["images_per_second"].items():
        shown = " ".join(f"{speed:6.0f}" for speed in speeds)
        work = found["processor_ms_per_image"][name]
        print(
            f"  {name:8} median {found['medians'][name]:6.0f}   {shown}   "
            f"{work:.2f} ms of processor time an image"
        )
    print(f"ratio of the medians {found['ratio']:.2f}")
    if arguments.results:
        arguments.results.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
