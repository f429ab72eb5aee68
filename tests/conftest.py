"""Fixtures that the tests of several packages use; more of them in `fixtures`."""

import os
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxmed.runtime.cache import (
    COMPILED_BYTES,
    cache_folder,
    remove_unfinished_programs,
)

# Most of the suite's time is XLA compiling, so what took long to compile is kept from
# one session to the next, and shared by the workers and the commands that tests start.
# JAX reads these when it is imported, which the plugins below do.
COMPILED = cache_folder() / "tests"
for variable, value in {
    "JAX_COMPILATION_CACHE_DIR": COMPILED,
    "JAX_COMPILATION_CACHE_MAX_SIZE": COMPILED_BYTES,
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0.3,
}.items():
    os.environ.setdefault(variable, str(value))

# Without torch, the tests that compare with it, or with what needs it, are left out.
HAS_TORCH = find_spec("torch") is not None
IMPORTS_TORCH = re.compile(
    r"^(?:import|from) (?:torch|onnx|pytorch_grad_cam|safetensors\.torch|skimage|cv2)",
    re.M,
)

pytest_plugins = (
    "fixtures.drawn_experiments",
    "fixtures.tiny_network",
    "fixtures.tiny_vit",
)


def pytest_sessionstart() -> None:
    remove_unfinished_programs(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]))


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if HAS_TORCH or not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text(encoding="utf-8")
    return True if IMPORTS_TORCH.search(text) else None


def pytest_report_header() -> str | None:
    return None if HAS_TORCH else "without torch: tests that import it are left out"


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_of_one_file():
    """Forget a file's programs after it: all of them together take many gigabytes."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real images; tests that need it skip where it is not given."""
    folder = os.environ.get("JAXMED_TEST_DATA")
    if not folder:
        pytest.skip("JAXMED_TEST_DATA does not name a folder of real images")
    return Path(folder)
