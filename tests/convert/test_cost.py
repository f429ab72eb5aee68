"""What converting and loading weights cost in time and memory.

Times are the process's own, so that other work on the machine does not count.
"""

import subprocess
import sys

import pytest
import torch
from torchvision.models import resnet50

CONVERT = """
import resource, sys, time
from pathlib import Path
import jax, torch, torchvision
from jaxmed_convert.weights.pretrained import prepare

def memory():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

jax.numpy.zeros(1)
before, started = memory(), time.process_time()
prepared = prepare("resnet50", "file:" + sys.argv[1], cache=Path(sys.argv[2]))
assert prepared.notes, "it was converted before"
print(time.process_time() - started, memory() - before)
"""

LOAD = """
import sys, time
from pathlib import Path
import jax
import jaxmed_convert
from jaxmed.models.registry import create_model

initialize = jaxmed_convert.initialize
model = create_model("resnet50", num_classes=2)
started = time.process_time()
initialize(model, "file:" + sys.argv[1], cache=Path(sys.argv[2]))
print(time.process_time() - started)
assert "torch" not in sys.modules
"""


def _run(program: str, *arguments) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(number) for number in done.stdout.split()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(resnet50().state_dict(), path)
    return path


@pytest.mark.slow
def test_resnet50_converts_in_seconds_and_little_memory_then_loads_at_once(
    checkpoint, tmp_path
):
    seconds, growth = _run(CONVERT, checkpoint, tmp_path)
    assert seconds < 10
    assert growth < 3 * checkpoint.stat().st_size
    (seconds,) = _run(LOAD, checkpoint, tmp_path)
    assert seconds < 1
