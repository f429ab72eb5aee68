"""Cost per image over sizes of the data set, and over devices.

    python benchmarks/scaling.py

Drawn images of 28 pixels go the whole way: read, trained on for one epoch (the last
stage and the head of a ResNet-18), predicted and evaluated with intervals. Nothing of
it may grow faster than the data. Then 1 to 8 devices, which on a CPU are virtual and
share its cores: the same work, so that the time per image should stay as it is.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from alternate import run_in_turn, save
from machine import describe

SIZES = (1_000, 10_000, 100_000)
DEVICES = (1, 2, 4, 8)
STAGES = ("read", "train", "predict", "evaluate")


def main() -> None:
    arguments = parse()
    if arguments.work:
        work(arguments.work, arguments.out)
        return
    results: dict = {"machine": describe(), "sizes": {}, "devices": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in arguments.sizes:
            path = draw_images(Path(folder, f"{size}.npz"), size)
            results["sizes"][size] = measure(f"{size} images", path, 1)
        path = Path(folder, f"{min(arguments.sizes)}.npz")
        for devices in arguments.devices:
            found = measure(f"{devices} devices", path, devices)
            results["devices"][devices] = found
    print()
    for what in ("sizes", "devices"):
        print(table(what, results[what]), end="\n\n")
    save(arguments.results, results)
    draw(results, arguments.results.with_suffix(".png"))


def draw_images(path: Path, count: int) -> Path:
    """Writes noise with a class-dependent brightness in MedMNIST's layout."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, images in (("train", count), ("val", count // 10), ("test", count // 5)):
        labels = rng.integers(0, 2, images)
        noise = rng.integers(0, 226, (images, 28, 28), np.uint8)
        arrays[f"{split}_images"] = noise + 30 * labels[:, None, None].astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(path, **arrays)
    return path


def measure(name: str, data: Path, devices: int) -> dict:
    """Runs the way once; returns microseconds per image by stage, and megabytes."""
    flag = f"--xla_force_host_platform_device_count={devices}"
    os.environ["XLA_FLAGS"] = flag
    command = [sys.executable, __file__, "--work", str(data)]
    (run,) = run_in_turn({name: command}, rounds=1)[name]
    return run.result | {"peak_mb": run.peak_mb}


def work(data: Path, out: Path) -> None:
    """What is measured, in a process of its own."""
    import jaxmed
    from jaxmed.strategies import create_strategy

    clock = [time.perf_counter()]
    dataset = jaxmed.load_dataset(f"npz:{data}", image_size=32)
    clock.append(time.perf_counter())
    model = jaxmed.create_model("resnet18", num_classes=2)
    strategy = create_strategy("partial", model, epochs=1)
    fitted = jaxmed.fit(model, dataset, strategy, batch_size=64)
    clock.append(time.perf_counter())
    val, test = (jaxmed.predict_split(model, dataset, name) for name in ("val", "test"))
    clock.append(time.perf_counter())
    jaxmed.evaluate(val, test)
    clock.append(time.perf_counter())
    images = len(dataset.train)
    spent = np.diff(clock) * 1e6 / images
    result = {"images": images, **dict(zip(STAGES, spent.tolist(), strict=True))}
    result["images_per_second"] = fitted.history[0]["images_per_second"]
    out.write_text(json.dumps(result))


def table(what: str, found: dict) -> str:
    """Returns a Markdown table of microseconds per training image."""
    lines = [
        f"| {what} | {' | '.join(STAGES)} | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for name, result in found.items():
        stages = " | ".join(f"{result[stage]:,.0f} µs" for stage in STAGES)
        lines.append(f"| {name:,} | {stages} | {result['peak_mb']:,.0f} MB |")
    return "\n".join(lines)


def draw(results: dict, path: Path) -> None:
    """Draws the time per image over sizes and over devices."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.5), sharey=True)
    for axis, what in zip(axes, ("sizes", "devices"), strict=True):
        numbers = [int(name) for name in results[what]]
        for stage in STAGES:
            values = [result[stage] for result in results[what].values()]
            axis.plot(numbers, values, "o-", label=stage)
        axis.set(xscale="log", yscale="log", xlabel=what)
        axis.set_xticks(numbers, [f"{number:,}" for number in numbers])
        axis.minorticks_off()
    axes[0].set_ylabel("microseconds per training image")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--devices", type=int, nargs="+", default=DEVICES)
    results = Path("runs/benchmarks/scaling.json")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
