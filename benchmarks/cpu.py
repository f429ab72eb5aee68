"""jaxmed and a PyTorch program, in turn on one CPU: whole time, memory and results.

    python benchmarks/cpu.py --data pneumoniamnist.npz --weights resnet18.pth

Every program is a process of its own, timed from start to end. Both read the same
file, start from the same weights, head included, see every image as often, validate
after every epoch and predict the test images; the AUROC of both is compared.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import torch
from alternate import Run, medians, run_in_turn, save
from machine import describe
from safetensors.torch import save_file
from torchvision import models

HERE = Path(__file__).parent
# Epochs, learning rate, and the goal: PyTorch's seconds over jaxmed's.
TASKS = {
    "frozen": (5, 1e-3, 4.0),
    "partial": (5, 1e-4, 2.5),
    "full": (1, 1e-4, 0.8),
    "predict": (0, 1e-4, 1.0),
}
# How far apart AUROCs on the test images may be; epochs see them in another order.
TOLERANCE = 0.02


def main() -> None:
    arguments = parse()
    machine = describe()
    for name, value in machine.items():
        print(f"{name:12} {value}")
    results: dict = {"machine": machine, "size": arguments.size, "tasks": {}}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "start.pth")
        write_weights(arguments.weights, weights)
        for task in arguments.tasks:
            print(f"\n{task}", flush=True)
            runs = run_in_turn(commands(task, arguments, weights), arguments.rounds)
            results["tasks"][task] = {"runs": runs, **compare(task, runs)}
            # After every task, so that a stop loses no hours.
            save(arguments.results, results)
    print(f"\n{table(results['tasks'])}\n\n{arguments.results}")
    draw(results["tasks"], arguments.results.with_suffix(".png"))
    if not all(outcome["agrees"] for outcome in results["tasks"].values()):
        sys.exit("The two programs disagree about the test images.")


def write_weights(source: Path, target: Path) -> None:
    """Writes one state dict for both, with a head for two classes."""
    torch.manual_seed(0)
    own = models.resnet18(num_classes=2).state_dict()
    given = torch.load(source, weights_only=True)
    own |= {name: t for name, t in given.items() if not name.startswith("fc.")}
    torch.save(own, target)
    save_file(own, target.with_suffix(".safetensors"))


def commands(
    task: str, arguments: argparse.Namespace, weights: Path
) -> dict[str, list[str]]:
    epochs, rate, _ = TASKS[task]
    common = [
        *(task, "--data", str(arguments.data), "--size", str(arguments.size)),
        *("--epochs", str(epochs), "--learning-rate", str(rate)),
        *("--images", str(arguments.images)),
    ]
    ours, theirs = HERE / "jaxmed_program.py", HERE / "torch_program.py"
    fast = str(weights.with_suffix(".safetensors"))
    return {
        "jaxmed": [sys.executable, str(ours), *common, "--weights", fast],
        **{
            f"torch, {workers} workers": [
                *(sys.executable, str(theirs), *common, "--weights", str(weights)),
                *("--workers", str(workers)),
            ]
            for workers in arguments.workers
        },
    }


def compare(task: str, runs: dict[str, list[Run]]) -> dict:
    """Compares jaxmed with the fastest of the PyTorch programs."""
    seconds = medians(runs)
    best = min((name for name in runs if name != "jaxmed"), key=seconds.__getitem__)
    peak = {
        name: statistics.median(run.peak_mb for run in every)
        for name, every in runs.items()
    }
    last = {name: every[-1].result["test_auroc"] for name, every in runs.items()}
    return {
        "rival": best,
        "seconds": seconds,
        "peak_mb": peak,
        "ratio": seconds[best] / seconds["jaxmed"],
        "goal": TASKS[task][2],
        "test_auroc": last,
        "agrees": abs(last["jaxmed"] - last[best]) <= TOLERANCE,
    }


def table(tasks: dict[str, dict]) -> str:
    """Returns a Markdown table, a row per task."""
    lines = [
        "| task | jaxmed | PyTorch | ratio | goal | peak memory | test AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for task, found in tasks.items():
        rival = found["rival"]
        lines.append(
            f"| {task} | {found['seconds']['jaxmed']:.0f} s "
            f"| {found['seconds'][rival]:.0f} s ({rival}) | {found['ratio']:.2f} "
            f"| {found['goal']:.1f} | {found['peak_mb']['jaxmed']:.0f} and "
            f"{found['peak_mb'][rival]:.0f} MB | {found['test_auroc']['jaxmed']:.3f} "
            f"and {found['test_auroc'][rival]:.3f} |"
        )
    return "\n".join(lines)


def draw(tasks: dict[str, dict], path: Path) -> None:
    """Draws the seconds of every run, and the medians."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(tasks), figsize=(3 * len(tasks), 3.2))
    for axis, (task, found) in zip(
        [axes] if len(tasks) == 1 else axes, tasks.items(), strict=True
    ):
        for place, (name, every) in enumerate(found["runs"].items()):
            axis.bar(place, found["seconds"][name], color=f"C{place}", alpha=0.5)
            dots = [run.seconds for run in every]
            axis.plot([place] * len(dots), dots, "o", color=f"C{place}", ms=4)
        axis.set_xticks(range(len(found["runs"])), list(found["runs"]), rotation=20)
        axis.set_title(f"{task}: {found['ratio']:.2f} times as fast", fontsize=9)
        axis.set_ylabel("seconds, start to end")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--data", type=Path, required=True, help="MedMNIST's npz file")
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-18, .pth")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--images", type=int, default=0, help="train images; 0 for all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument(
        "--results", type=Path, default=Path("runs/benchmarks/cpu.json")
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - TASKS.keys():
        parser.error(f"unknown task {unknown.pop()}; there are {', '.join(TASKS)}")
    return arguments


if __name__ == "__main__":
    main()
