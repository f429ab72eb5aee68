"""What importing costs: torch stays out, and --help answers at once."""

import subprocess
import sys
import time

import pytest

HEAVY = ("jax", "torch", "tensorflow", "medmnist", "sklearn", "matplotlib", "flax")


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def loaded_after(code: str) -> set[str]:
    """Top-level modules in memory after some code ran in a fresh interpreter."""
    listing = "import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    return set(run("-c", f"{code}\n{listing}").splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import jaxmed",
        "import jaxmed; jaxmed.create_model; jaxmed.fit; jaxmed.load_dataset",
        "import jaxmed; jaxmed.load_model; jaxmed.make_predictor",
        "import jaxmed.experiments.pipeline.experiment",
        "import jaxmed_convert",
    ],
)
def test_imports_load_neither_torch_nor_tensorflow(code):
    loaded = loaded_after(code)
    assert "jaxmed" in loaded or "jaxmed_convert" in loaded
    assert not loaded & {"torch", "torchvision", "tensorflow", "medmnist"}
    assert not loaded & {"pydicom", "pyarrow", "tensorflow_datasets"}


@pytest.mark.parametrize(
    "command",
    [
        "--help",
        "run --help",
        "advise --help",
        "find-lr --help",
        "find-batch-size --help",
        "inspect --help",
        "compare --help",
        "predict --help",
        "validate --help",
        "export --help",
        "list",
    ],
)
def test_help_loads_nothing_heavy(command):
    code = (
        "from jaxmed.experiments.__main__ import main\n"
        f"try: main({command.split()})\n"
        "except SystemExit: pass"
    )
    loaded = loaded_after(code)
    assert "jaxmed" in loaded
    assert not loaded & set(HEAVY)


def test_help_answers_in_a_few_times_what_importing_numpy_takes():
    def seconds(*arguments: str) -> float:
        started = time.perf_counter()
        run(*arguments)
        return time.perf_counter() - started

    # In turns, and the best of each: other work on the machine must not decide.
    pairs = [
        (seconds("-m", "jaxmed.experiments", "--help"), seconds("-c", "import numpy"))
        for _ in range(5)
    ]
    answer, numpy = map(min, zip(*pairs, strict=True))
    assert answer < 5 * numpy
