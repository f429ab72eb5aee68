"""Contract 5: more devices, same answer."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxmed.runtime.sharding import data_mesh, empty_aligned, replicate, to_host

PROGRAM = Path(__file__).with_name("eight_devices.py")


@pytest.mark.parametrize(
    ("precision", "measure", "tolerance"),
    [
        ("float64", "tensor", 1e-9),
        pytest.param("float32", "whole", 1e-5, marks=pytest.mark.slow),
    ],
)
def test_eight_devices_and_pmap_give_the_result_of_one(precision, measure, tolerance):
    paths = filter(None, [os.environ.get("PYTHONPATH")])
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(map(str, [PROGRAM.parents[1], *paths])),
    }
    done = subprocess.run(
        [sys.executable, str(PROGRAM), precision],
        env=environment, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    differences = json.loads(done.stdout)
    windows = ["windows"] if precision == "float64" else []
    assert list(differences) == ["mesh", "pmap", "cached", *windows]
    for which in differences.values():
        assert which[measure] < tolerance, differences


def test_a_numpy_array_is_used_where_it_lies_but_not_written_to():
    mesh = data_mesh(jax.devices()[:1])
    array = empty_aligned((1024, 1024), np.float32)
    array[:] = 0
    lent = replicate(array, mesh)
    if jax.default_backend() == "cpu":
        assert lent.unsafe_buffer_pointer() == array.ctypes.data
    for _ in range(3):
        lent = jax.jit(lambda x: x + 1, donate_argnums=0)(lent)
    assert lent[0, 0] == 3
    assert not array.any()


def test_replicated_arrays_are_copies():
    mesh = data_mesh(jax.devices()[:1])
    array = jax.numpy.arange(3.0)
    copy = replicate(array, mesh)
    host = to_host(copy)
    jax.jit(lambda x: x + 1, donate_argnums=0)(copy)
    assert not array.is_deleted()
    np.testing.assert_array_equal(array, [0, 1, 2])
    np.testing.assert_array_equal(host, [0, 1, 2])
