"""ResNet-50 on one GPU: jaxmed against torch.compile, AMP and channels_last.

    python benchmarks/gpu.py [--images 10240] [--rounds 3]

Both programs hold the same drawn uint8 images on the device, gather, normalize and
train on them in bfloat16, batch 256, from the same weights, validate after every epoch
and predict the test images. Images per second are the median over all epochs but the
first, which compiles; whole seconds are those of the process. Then, of jaxmed alone:
frozen against full, images streamed from JPEGs against resident ones, and the recipe
`bloodmnist_frozen_vs_full` on drawn images of its shape, from start to report.

It needs jaxmed's own packages and torch, but not torchvision, and no installation of
jaxmed. On a machine without a GPU everything runs, too, slowly and in float32.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "convert")]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 8
RATE = 1e-4


def main() -> None:
    arguments = parse()
    if arguments.work:
        result = WORK[arguments.work](arguments)
        arguments.out.write_text(json.dumps(result))
        return
    from alternate import run_in_turn, save
    from machine import describe

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path[:2])
    results: dict = {"machine": describe()}
    for name, value in results["machine"].items():
        print(f"{name:12} {value}")
    with tempfile.TemporaryDirectory() as folder:
        data = draw_images(Path(folder, "drawn.npz"), arguments.images, arguments.size)
        weights = write_weights(Path(folder, "start.pt"))
        common = [
            *("--data", str(data), "--weights", str(weights)),
            *("--epochs", str(arguments.epochs), "--size", str(arguments.size)),
            *("--batch-size", str(arguments.batch_size)),
        ]
        here = [sys.executable, __file__, *common, "--work"]
        programs = {name: [*here, name] for name in ("jaxmed", "torch")}
        runs = run_in_turn(programs, arguments.rounds)
        alone = {name: [*here, name] for name in ("frozen", "streamed")}
        runs |= run_in_turn(alone, 1)
        results["runs"] = runs
        results["recipe_seconds"] = None
        if not arguments.without_recipe:
            results["recipe_seconds"] = time_recipe(Path(folder))
    save(arguments.results, results)
    print("\n" + table(results, arguments))


def table(results: dict, arguments: argparse.Namespace) -> str:
    """Returns what was reached, beside the goals, in Markdown."""
    runs = results["runs"]
    speed = {
        name: statistics.median(run.result["images_per_second"] for run in every)
        for name, every in runs.items()
    }
    full = statistics.median(run.seconds for run in runs["jaxmed"])
    loss = {name: every[0].result["losses"][0] for name, every in runs.items()}
    lines = [
        "| what | reached | goal |",
        "|---|---|---|",
        f"| jaxmed, images a second | {speed['jaxmed']:,.0f} | 2,500 |",
        f"| torch, images a second | {speed['torch']:,.0f} | |",
        f"| ratio | {speed['jaxmed'] / speed['torch']:.2f} | 1.2 |",
        f"| streamed from JPEGs over resident | "
        f"{speed['streamed'] / speed['jaxmed']:.2f} | 0.9 |",
        f"| full over frozen, whole time of {arguments.epochs} epochs | "
        f"{full / runs['frozen'][0].seconds:.2f} | 5 |",
        f"| loss of the first epoch, jaxmed and torch | {loss['jaxmed']:.3f} and "
        f"{loss['torch']:.3f} | alike |",
    ]
    if results["recipe_seconds"] is not None:
        seconds = f"{results['recipe_seconds']:.0f} s"
        lines.append(f"| bloodmnist_frozen_vs_full, complete | {seconds} | 60 s |")
    return "\n".join(lines)


def draw_images(path: Path, count: int, size: int) -> Path:
    """Writes noise whose color tells the class, in MedMNIST's layout."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, images in (("train", count), ("val", count // 8), ("test", count // 8)):
        labels = rng.integers(0, CLASSES, images)
        tints = 20 * np.stack([labels & 1, labels >> 1 & 1, labels >> 2], axis=-1)
        noise = rng.integers(0, 226, (images, size, size, 3), np.uint8)
        arrays[f"{split}_images"] = noise + tints[:, None, None].astype(np.uint8)
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    np.savez(path, **arrays)
    return path


def write_weights(path: Path) -> Path:
    """Writes one state dict, from which both programs start."""
    import torch

    import jaxmed
    import jaxmed_convert

    model = jaxmed.create_model("resnet50", num_classes=CLASSES)
    torch.save(jaxmed_convert.to_torch(model), path)
    return path


def train_jaxmed(
    arguments: argparse.Namespace, strategy: str = "full", streamed: bool = False
) -> dict:
    """jaxmed's program."""
    import torch

    import jaxmed
    import jaxmed_convert
    from jaxmed.strategies import create_strategy

    source = f"npz:{arguments.data}"
    options: dict = {}
    if streamed:
        source = f"folder:{write_pictures(arguments.data)}"
        options["memory_budget"] = 0
    data = jaxmed.load_dataset(source, image_size=arguments.size, **options)
    model = jaxmed.create_model("resnet50", num_classes=CLASSES)
    jaxmed_convert.from_torch(model, torch.load(arguments.weights))
    fitted = jaxmed.fit(
        model,
        data,
        create_strategy(
            strategy,
            model,
            epochs=arguments.epochs,
            learning_rate=RATE,
            optimizer="adam",
        ),
        batch_size=arguments.batch_size,
        feed="stream" if streamed else "auto",
    )
    jaxmed.predict_split(model, data, "test")
    return {
        "images_per_second": warm([r["images_per_second"] for r in fitted.history]),
        "losses": [row["train_loss"] for row in fitted.history],
    }


def write_pictures(data: Path) -> Path:
    """Writes the images as JPEGs, a folder for each split and class."""
    from PIL import Image

    root = data.parent / "pictures"
    with np.load(data) as arrays:
        for split in ("train", "val", "test"):
            labels = arrays[f"{split}_labels"][:, 0]
            for i, image in enumerate(arrays[f"{split}_images"]):
                folder = root / split / f"class{labels[i]}"
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / f"{i:06d}.jpg")
    return root


def train_torch(arguments: argparse.Namespace) -> dict:
    """The program that one would otherwise write, made fast as PyTorch advises."""
    import torch
    from torch_resnet import ResNet50

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    with np.load(arguments.data) as arrays:
        images = {
            split: torch.from_numpy(arrays[f"{split}_images"]).to(device)
            for split in ("train", "val", "test")
        }
        labels = {
            split: torch.from_numpy(arrays[f"{split}_labels"][:, 0].astype(np.int64))
            for split in images
        }
    mean, std = torch.tensor(MEAN, device=device), torch.tensor(STD, device=device)
    model = ResNet50(CLASSES)
    model.load_state_dict(torch.load(arguments.weights))
    model = model.to(device, memory_format=torch.channels_last)
    compiled = torch.compile(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, fused=device == "cuda")

    def logits_of(split: str, rows: torch.Tensor) -> torch.Tensor:
        batch = (images[split][rows] / 255 - mean) / std
        with torch.autocast(device, torch.bfloat16):
            return compiled(batch.permute(0, 3, 1, 2)).float()

    @torch.no_grad()
    def predict(split: str) -> torch.Tensor:
        model.eval()
        rows = torch.arange(len(labels[split]), device=device)
        parts = [logits_of(split, r) for r in rows.split(arguments.batch_size)]
        return torch.cat(parts).softmax(1).cpu()

    count, speeds, losses = len(labels["train"]), [], []
    truth = labels["train"].to(device)
    for _ in range(arguments.epochs):
        model.train()
        started, total = time.perf_counter(), torch.zeros((), device=device)
        order = torch.randperm(count, device=device)
        for rows in order.split(arguments.batch_size):
            logits = logits_of("train", rows)
            loss = torch.nn.functional.cross_entropy(logits, truth[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(rows)
        losses.append(float(total) / count)
        speeds.append(count / (time.perf_counter() - started))
        predict("val")
    predict("test")
    return {"images_per_second": warm(speeds), "losses": losses}


def warm(speeds: list[float]) -> float:
    """Returns the median over all epochs but the first, which compiles."""
    return statistics.median(speeds[1:] or speeds)


def time_recipe(folder: Path) -> float:
    """Runs a whole recipe on drawn images of BloodMNIST's shape; returns seconds."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 11_959), ("val", 1_712), ("test", 3_421)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (count, 28, 28, 3), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(count) % CLASSES)[:, None].astype("u1")
    np.savez(folder / "blood.npz", **arrays)
    started = time.perf_counter()
    subprocess.run(
        [
            *(sys.executable, "-m", "jaxmed.experiments", "run"),
            *("bloodmnist_frozen_vs_full", "--out", str(folder / "runs")),
            *("--data.source", f"npz:{folder / 'blood.npz'}"),
            *("--model.weights", "none"),
        ],
        check=True,
    )
    return time.perf_counter() - started


WORK = {
    "jaxmed": train_jaxmed,
    "frozen": lambda arguments: train_jaxmed(arguments, strategy="frozen"),
    "streamed": lambda arguments: train_jaxmed(arguments, streamed=True),
    "torch": train_torch,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_240, help="train images")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--without-recipe", action="store_true")
    results = Path("runs/benchmarks/gpu.json")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--work", choices=WORK, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
