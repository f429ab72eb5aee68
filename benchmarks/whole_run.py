"""A whole `run`, report included, and a complete PyTorch program, in turn on one CPU.

    python benchmarks/whole_run.py --data pneumoniamnist.npz --weights resnet18.pth

Both train ResNet-18 with validation after every epoch, predict val and test, choose a
threshold on val, draw the Grad-CAM maps of as many test images, and write figures;
`run` writes its report, intervals, checkpoints and the out-of-distribution detector
besides. Every program is a process of its own, timed from its start to its end. Nothing
is kept from one `run` to the next, unless `--keep-compiled` keeps compiled programs.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

from alternate import medians, processor_medians, run_in_turn, save
from cpu import write_weights
from machine import describe

HERE = Path(__file__).parent
# Strategy, learning rate, seeds, and the goal: PyTorch's seconds over jaxmed's.
TASKS = {
    "frozen": ("frozen", 1e-3, 1, 4.0),
    "frozen, three seeds": ("frozen", 1e-3, 3, 8.0),
    "partial": ("partial", 1e-4, 1, 2.0),
    "full": ("full", 1e-4, 1, 1.0),
}


def main() -> None:
    arguments = parse()
    machine = describe()
    for name, value in machine.items():
        print(f"{name:12} {value}")
    sizes = {key: getattr(arguments, key) for key in ("size", "images", "epochs")}
    results: dict = {"machine": machine, **sizes, "tasks": {}}
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "start.pth")
        write_weights(arguments.weights, weights)
        for task in arguments.tasks:
            print(f"\n{task}", flush=True)
            runs = run_in_turn(commands(task, arguments, weights), arguments.rounds)
            peak = {
                name: statistics.median(run.peak_mb for run in every)
                for name, every in runs.items()
            }
            found = {"runs": runs, "seconds": medians(runs), "peak_mb": peak}
            found["processor_seconds"] = processor_medians(runs)
            results["tasks"][task] = found
            # After every task, so that a stop loses no hours.
            save(arguments.results, results)
    print(f"\n{table(results['tasks'])}\n\n{arguments.results}")


def commands(
    task: str, arguments: argparse.Namespace, weights: Path
) -> dict[str, list[str]]:
    strategy, rate, seeds, _ = TASKS[task]
    common = [
        *(strategy, "--data", str(arguments.data), "--weights", str(weights)),
        *("--size", str(arguments.size), "--images", str(arguments.images)),
        *("--epochs", str(arguments.epochs), "--learning-rate", str(rate)),
        *("--seeds", str(seeds), "--maps", str(arguments.maps)),
    ]
    kept = ["--keep-compiled", str(weights.parent)] if arguments.keep_compiled else []
    ours, theirs = HERE / "jaxmed_run.py", HERE / "torch_complete.py"
    return {
        "jaxmed": [sys.executable, str(ours), *common, *kept],
        "torch": [
            *(sys.executable, str(theirs), *common),
            *("--workers", str(arguments.workers)),
        ],
    }


def table(tasks: dict[str, dict]) -> str:
    """Returns a Markdown table, a row per task."""
    lines = [
        "| task | jaxmed | PyTorch | ratio | goal | processor seconds | their ratio "
        "| peak memory, MB | test AUROC |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, found in tasks.items():
        ours, theirs = (found["seconds"][name] for name in ("jaxmed", "torch"))
        work = [found["processor_seconds"][name] for name in ("jaxmed", "torch")]
        memory = " and ".join(f"{peak:,.0f}" for peak in found["peak_mb"].values())
        last = [every[-1].result["test_auroc"] for every in found["runs"].values()]
        scores = " and ".join(f"{statistics.mean(seeds):.3f}" for seeds in last)
        lines.append(
            f"| {task} | {ours:.1f} s | {theirs:.1f} s | {theirs / ours:.2f} "
            f"| {TASKS[task][3]:.1f} | {work[0]:.1f} and {work[1]:.1f} "
            f"| {work[1] / work[0]:.2f} | {memory} | {scores} |"
        )
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=list(TASKS), metavar="TASK")
    parser.add_argument("--data", type=Path, required=True, help="MedMNIST's npz file")
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-18, .pth")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument(
        "--images", type=int, default=1000, help="train images; 0 for all"
    )
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--maps", type=int, default=16, help="images with a map")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="of the DataLoader")
    parser.add_argument("--keep-compiled", action="store_true")
    parser.add_argument(
        "--results", type=Path, default=Path("runs/benchmarks/whole_run.json")
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.tasks) - TASKS.keys():
        parser.error(f"unknown task {unknown.pop()!r}; there are {', '.join(TASKS)}")
    return arguments


if __name__ == "__main__":
    main()
