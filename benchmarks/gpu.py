"""ResNet-50 on one GPU: jaxmed against torch.compile, AMP and channels_last.

    python benchmarks/gpu.py [--minutes 6] [--only jaxmed torch] [--results FILE]

Both programs hold the same drawn uint8 images on the device, gather, normalize and
train on them in bfloat16, batch 256, from the same weights, validate after every epoch
and predict the test images. Images per second are the median over all epochs but the
first, which compiles; whole seconds are those of the process.

Then, of jaxmed alone: frozen and partial training, images streamed from JPEGs, the
bare training step of several networks, how far logits are from double precision,
whether a training repeats to the last bit, and the recipe `bloodmnist_frozen_vs_full`
on drawn images of its shape, from start to report.

Every part is a process of its own. What a part gives is printed and saved at once, a
part that fails does not end the rest, and none begins after `--minutes`. It needs the
packages of jaxmed and torch, but not torchvision, and no installation of jaxmed. On a
machine without a GPU everything runs, too, slowly and in float32.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from alternate import Failed, Run, run_once, save

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = [str(ROOT), str(ROOT / "convert")]
sys.path[:0] = PACKAGES
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLASSES = 8
RATE = 1e-4
# The networks whose bare step is timed: name, batch size, trained.
STEPS = (
    ("resnet50", 256, "full"),
    ("resnet50", 256, "partial"),
    ("resnet50", 256, "frozen"),
    ("resnet18", 64, "full"),
    ("convnext_tiny", 128, "full"),
    ("efficientnet_b0", 128, "full"),
    ("densenet121", 128, "full"),
    ("mobilenet_v2", 128, "full"),
)
REPEATABLE = "--xla_gpu_deterministic_ops=true"


def main() -> None:
    arguments = parse()
    if arguments.part:
        PARTS[arguments.part](arguments)
        return
    started = time.monotonic()
    # This process only waits: the card's memory belongs to the parts.
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [*PACKAGES, *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    results: dict = {}
    with tempfile.TemporaryDirectory() as folder:
        data = draw_images(Path(folder, "drawn.npz"), arguments.images, arguments.size)
        common = [
            *("--data", str(data), "--weights", str(Path(folder, "start.pt"))),
            *("--epochs", str(arguments.epochs), "--size", str(arguments.size)),
            *("--batch-size", str(arguments.batch_size)),
        ]
        for name, options in plan(arguments.only):
            left = 60 * arguments.minutes - (time.monotonic() - started)
            if left < 10:
                print(f"{name}: not begun, {arguments.minutes:g} minutes are over.")
                continue
            part = options.pop("part", name)
            command = [sys.executable, __file__, *common, "--part", part]
            try:
                run = run_once(command, environment=options, timeout=left)
            except Failed as failed:
                print(f"{name}: {failed}", flush=True)
                continue
            results[name] = run
            print(f"{name}: {run.seconds:.1f} s, {json.dumps(run.result)}", flush=True)
            save(arguments.results, results)
    print("\n" + table(results))


def plan(only: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """List the parts, the most important first, and their environment variables."""
    on_the_cpu = {"JAX_PLATFORMS": "cpu"}
    flags = f"{os.environ.get('XLA_FLAGS', '')} {REPEATABLE}"
    again = {"part": "repeat", "XLA_FLAGS": flags}
    parts: list[tuple[str, dict[str, str]]] = [
        ("machine", {}),
        ("weights", on_the_cpu),
        ("jaxmed", {}),
        ("torch", {}),
        ("steps", {}),
        ("precision", {}),
        ("frozen", {}),
        ("streamed", {}),
        ("partial", {}),
        ("repeat", {}),
        ("repeat again", {"part": "repeat"}),
        ("repeat deterministic", dict(again)),
        ("repeat deterministic again", dict(again)),
        ("recipe", {}),
    ]
    wanted = {"machine", "weights", *only}
    return [part for part in parts if not only or part[0] in wanted]


def table(results: dict[str, Run]) -> str:
    """Write what was reached as Markdown, a row a number."""
    lines = ["| measured | value |", "|---|---|"]

    def row(text: str, value: Callable[[], str]) -> None:
        try:
            lines.append(f"| {text} | {value()} |")
        except (KeyError, IndexError):
            lines.append(f"| {text} | not measured |")

    def of(name: str, key: str) -> float:
        return results[name].result[key]

    def speed(name: str) -> float:
        return of(name, "images_per_second")

    row("card", lambda: results["machine"].result["accelerator"])
    for name in ("jaxmed", "torch"):
        row(
            f"{name}, all of ResNet-50, images/s",
            lambda name=name: f"{speed(name):,.0f}",
        )
        row(
            f"{name}, peak memory of the card, MB",
            lambda name=name: f"{of(name, 'device_mb'):,.0f}",
        )
        row(
            f"{name}, loss of the last epoch",
            lambda name=name: f"{results[name].result['losses'][-1]:.3f}",
        )
    row("jaxmed over torch", lambda: f"{speed('jaxmed') / speed('torch'):.2f}")
    row(
        "streamed from JPEGs over resident",
        lambda: f"{speed('streamed') / speed('jaxmed'):.2f}",
    )
    for name in ("jaxmed", "torch", "frozen", "partial", "streamed"):
        row(
            f"{name}, the whole process",
            lambda name=name: f"{results[name].seconds:.0f} s",
        )
    for key in results["steps"].result if "steps" in results else ():
        row(
            f"step of {key}",
            lambda key=key: "{ms:.1f} ms, {images_per_second:,.0f} images/s".format(
                **results["steps"].result[key]
            ),
        )
    for key in results["precision"].result if "precision" in results else ():
        row(
            f"logits of {key} from double precision",
            lambda key=key: f"{of('precision', key):.1e}",
        )
    for name in ("repeat", "repeat deterministic"):
        row(
            f"{name}: two processes, bit by bit",
            lambda name=name: (
                "equal"
                if of(name, "weights") == of(f"{name} again", "weights")
                else "different"
            ),
        )
    row(
        "bloodmnist_frozen_vs_full, complete",
        lambda: f"{of('recipe', 'seconds'):.0f} s",
    )
    return "\n".join(lines)


def write_result(arguments: argparse.Namespace, result: dict) -> None:
    """Write what a part has so far, so that a part cut off keeps it."""
    arguments.out.write_text(json.dumps(result), encoding="utf-8")


def draw_images(path: Path, count: int, size: int) -> Path:
    """Write noise whose color tells the class, in MedMNIST's layout."""
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


def describe_machine(arguments: argparse.Namespace) -> None:
    from machine import describe

    write_result(arguments, describe())


def write_weights(arguments: argparse.Namespace) -> None:
    """Write one state dict, from which both programs start."""
    import torch

    import jaxmed
    import jaxmed_convert

    model = jaxmed.create_model("resnet50", num_classes=CLASSES)
    torch.save(jaxmed_convert.to_torch(model), arguments.weights)
    write_result(arguments, {})


def train_jaxmed(
    arguments: argparse.Namespace, strategy: str = "full", streamed: bool = False
) -> None:
    """Train as a user of jaxmed does."""
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
        select="val_loss",
        feed="stream" if streamed else "auto",
    )
    jaxmed.predict_split(model, data, "test")
    result = {
        "images_per_second": warm([r["images_per_second"] for r in fitted.history]),
        "epoch_seconds": [row["seconds"] for row in fitted.history],
        "losses": [row["train_loss"] for row in fitted.history],
        "device_mb": peak_memory(),
    }
    write_result(arguments, result)


def peak_memory() -> float:
    """Return the most memory of the card that JAX held, in 10^6 bytes."""
    import jax

    statistics = jax.local_devices()[0].memory_stats() or {}
    return statistics.get("peak_bytes_in_use", 0) / 1e6


def write_pictures(data: Path) -> Path:
    """Write the images as JPEGs, a folder for each split and class."""
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    root = data.parent / "pictures"
    with np.load(data) as arrays, ThreadPoolExecutor() as pool:
        for split in ("train", "val", "test"):
            labels, images = arrays[f"{split}_labels"][:, 0], arrays[f"{split}_images"]
            for label in set(labels.tolist()):
                (root / split / f"class{label}").mkdir(parents=True, exist_ok=True)
            paths = [
                root / split / f"class{label}" / f"{i:06d}.jpg"
                for i, label in enumerate(labels)
            ]

            def write(image: np.ndarray, path: Path) -> None:
                Image.fromarray(image).save(path)

            list(pool.map(write, images, paths))
    return root


def train_torch(arguments: argparse.Namespace) -> None:
    """Train as one would otherwise, made fast as PyTorch advises."""
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
    memory = torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else 0.0
    result = {"images_per_second": warm(speeds), "losses": losses, "device_mb": memory}
    write_result(arguments, result)


def warm(speeds: list[float]) -> float:
    """Return the median over all epochs but the first, which compiles."""
    return statistics.median(speeds[1:] or speeds)


def time_steps(arguments: argparse.Namespace) -> None:
    """Time the bare training step of several networks, bfloat16 where it is fast."""
    import jax

    import jaxmed
    from jaxmed.data.transforms.preprocess import Preprocessing
    from jaxmed.models.precision import resolve_precision, set_precision
    from jaxmed.strategies import create_strategy
    from jaxmed.training.state import Batch, StepPlan, begin_phase
    from jaxmed.training.step import make_train_step

    rng, results = np.random.default_rng(0), {}
    for name, rows, strategy in STEPS:
        rows = min(rows, arguments.batch_size)
        model = jaxmed.create_model(name, num_classes=CLASSES)
        set_precision(model, resolve_precision("auto"))
        phase = create_strategy(
            strategy, model, epochs=1, learning_rate=RATE, optimizer="adam"
        ).phases[0]
        plan = StepPlan(
            phase=phase,
            preprocessing=Preprocessing(image_size=arguments.size),
            task="multiclass",
        )
        definition, state, frozen = begin_phase(model, plan)
        shape = (1, rows, arguments.size, arguments.size, 3)
        batch = Batch(
            rng.integers(0, 256, shape, np.uint8),
            rng.integers(0, CLASSES, (1, rows), np.int32),
            np.ones((1, rows), np.float32),
        )
        fixed = {"frozen": frozen, "batch": batch, "key": jax.random.key(0)}
        state, fixed = jax.device_put((state, fixed))
        step = jax.jit(make_train_step(definition, plan), donate_argnums=0)
        started = time.perf_counter()
        compiled = step.lower(state, **fixed).compile()
        compilation = time.perf_counter() - started
        cost = compiled.cost_analysis() or {}
        rounds, seconds = (5 if jax.default_backend() != "cpu" else 1), []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            for _ in range(10 if rounds > 1 else 1):
                state = compiled(state, **fixed)
            jax.block_until_ready(state)
            seconds.append((time.perf_counter() - started) / (10 if rounds > 1 else 1))
        median = statistics.median(seconds[1:])
        results[f"{name}, batch {rows}, {strategy}"] = {
            "ms": 1000 * median,
            "images_per_second": rows / median,
            "compile_seconds": compilation,
            "gflop": cost.get("flops", 0) / 1e9,
            "gb": cost.get("bytes accessed", 0) / 1e9,
        }
        write_result(arguments, results)


def compare_precisions(arguments: argparse.Namespace) -> None:
    """Measure how far logits of ResNet-50 are from torch's in double precision."""
    import jax
    import torch
    from torch_resnet import ResNet50

    import jaxmed
    import jaxmed_convert
    from jaxmed.models.precision import set_precision

    weights = torch.load(arguments.weights)
    images = np.random.default_rng(0).normal(
        size=(8, arguments.size, arguments.size, 3)
    )
    inputs = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    reference = ResNet50(CLASSES).eval()
    reference.load_state_dict(weights)
    with torch.no_grad():
        exact = reference.double()(inputs).numpy()
    results = {}

    def distance(name: str, logits: np.ndarray) -> None:
        error = np.linalg.norm(logits - exact) / np.linalg.norm(exact)
        results[name] = float(error)
        write_result(arguments, results)

    model = jaxmed.create_model("resnet50", num_classes=CLASSES)
    jaxmed_convert.from_torch(model, weights)
    x = images.astype(np.float32)
    distance("jaxmed, float32", np.asarray(model(x)))
    with jax.default_matmul_precision("highest"):
        distance("jaxmed, float32, highest", np.asarray(model(x)))
    set_precision(model, "bfloat16")
    distance("jaxmed, bfloat16", np.asarray(model(x)))
    if torch.cuda.is_available():
        on_card = reference.float().cuda()
        with torch.no_grad():
            distance("torch, float32", on_card(inputs.float().cuda()).cpu().numpy())
            torch.backends.cudnn.allow_tf32 = False
            distance(
                "torch, float32 without TF32",
                on_card(inputs.float().cuda()).cpu().numpy(),
            )


def repeat_training(arguments: argparse.Namespace) -> None:
    """Train a ResNet-18 for some steps; return a hash of its weights."""
    import jax

    import jaxmed
    from jaxmed.models.parameters import split
    from jaxmed.strategies import create_strategy

    data = jaxmed.load_dataset(f"npz:{arguments.data}", image_size=64)
    model = jaxmed.create_model("resnet18", num_classes=CLASSES)
    strategy = create_strategy(
        "full", model, epochs=1, learning_rate=RATE, optimizer="adam"
    )
    jaxmed.fit(model, data, strategy, batch_size=64, select="val_loss")
    digest = hashlib.sha256()
    for path, array in sorted(split(model).params.items()):
        digest.update(path.encode())
        digest.update(np.asarray(jax.device_get(array)).tobytes())
    write_result(arguments, {"weights": digest.hexdigest()[:16]})


def time_recipe(arguments: argparse.Namespace) -> None:
    """Run a whole recipe on drawn images of BloodMNIST's shape."""
    rng = np.random.default_rng(0)
    folder, arrays = arguments.data.parent, {}
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
    write_result(arguments, {"seconds": time.perf_counter() - started})


PARTS: dict[str, Callable[[argparse.Namespace], None]] = {
    "machine": describe_machine,
    "weights": write_weights,
    "jaxmed": train_jaxmed,
    "torch": train_torch,
    "steps": time_steps,
    "precision": compare_precisions,
    "frozen": lambda arguments: train_jaxmed(arguments, strategy="frozen"),
    "partial": lambda arguments: train_jaxmed(arguments, strategy="partial"),
    "streamed": lambda arguments: train_jaxmed(arguments, streamed=True),
    "repeat": repeat_training,
    "recipe": time_recipe,
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=7_680, help="train images")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=6, help="no part begins later")
    parser.add_argument("--only", nargs="*", default=[], help="parts, see the code")
    results = Path("runs/benchmarks/gpu.json")
    parser.add_argument("--results", type=Path, default=results)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
