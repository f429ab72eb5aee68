"""What is compiled: a step for a phase, one evaluation, and nothing twice."""

import logging
import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxmed.data.batching import batches
from jaxmed.inference.forward import evaluation_batch, predict_split
from jaxmed.strategies import Group, Optimizer, Phase, Strategy
from jaxmed.training.config import CacheSettings
from jaxmed.training.fit import fit


def phase(name, *patterns):
    optimizer = Optimizer(name="adam", learning_rate=0.01)
    group = Group(name="all", patterns=patterns, optimizer=optimizer)
    return Phase(name=name, epochs=2, groups=(group,))


@pytest.fixture
def compiled():
    """How often each function of that name was compiled, so far."""
    names = Counter()

    class Counting(logging.Handler):
        def emit(self, record):
            found = re.match(
                r"Finished XLA compilation of jit\((.+)\)", record.getMessage()
            )
            if found:
                names[found[1]] += 1

    logger, handler = logging.getLogger("jax._src.dispatch"), Counting()
    logger.addHandler(handler)
    before = logger.level, logger.propagate
    logger.propagate = False
    with jax.log_compiles():
        yield names
    logger.level, logger.propagate = before
    logger.removeHandler(handler)


# What enters a cached phase is no image, so it has an evaluation of its own.
@pytest.mark.parametrize(
    ("feed", "cache", "evaluations", "image_size"),
    [
        ("resident", "off", 1, 13),
        ("stream", "off", 1, 14),
        ("resident", "float32", 2, 15),
    ],
)
def test_a_phase_compiles_one_step_and_all_splits_share_one_evaluation(
    new_tiny, quarters, compiled, feed, cache, evaluations, image_size
):
    # Programs are kept by what they do; a name makes these new ones.
    first = phase(f"head of {image_size}", "head")
    second = phase(f"all of {image_size}", "backbone", "head")
    model = new_tiny()
    # Another preprocessing than other tests have, for the same reason.
    data = replace(quarters, image_size=image_size)
    fit(
        model, data, Strategy(name="two", phases=(first, second)),
        batch_size=7, feed=feed, select="val_loss", cache=CacheSettings(mode=cache),
    )  # fmt: skip
    for split in ("val", "test", "train"):
        predict_split(model, data, split)
    step = {"resident": "gathered", "stream": "on_batch"}[feed]
    assert compiled[step] == 2
    assert compiled["logits"] == evaluations


@pytest.mark.parametrize(
    ("val", "test", "expected"),
    [(25, 6, 25), (78, 156, 78), (524, 624, 175), (6, 2000, 64), (10000, 10000, 250)],
)
def test_the_batch_of_evaluation_wastes_little_on_validation(
    quarters, val, test, expected
):
    def sized(name, count):
        rows = np.zeros(count, int)
        return replace(
            quarters.val,
            images=quarters.val.images[rows],
            labels=quarters.val.labels[rows],
            ids=tuple(f"{name}/{number}" for number in range(count)),
        )

    data = replace(quarters, val=sized("val", val), test=sized("test", test))
    size = evaluation_batch(data, limit=256)
    assert size == expected
    padded = sum(len(m) for _, m in batches(np.arange(val), size))
    assert padded <= max(1.05 * val, 64)


PROGRAM = """

from jaxmed.runtime.cache import keep_compiled_programs
keep_compiled_programs()
import jax, jax.numpy as jnp
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(
    lambda name, **_: hits.append(name) if name.endswith("/cache_hits") else None
)
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).sum(), len(hits))
"""


def run(**variables):
    # Without the suite's own settings of this cache.
    environment = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment | variables,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    number, hits = done.stdout.split()
    return float(number), int(hits)


def test_a_command_finds_what_it_compiled_before(tmp_path):
    first, hits = run(JAXMED_CACHE=str(tmp_path / "cache"))
    assert hits == 0
    assert list((tmp_path / "cache" / "compiled").glob("jit*-cache"))
    second, hits = run(JAXMED_CACHE=str(tmp_path / "cache"))
    assert hits > 0
    assert second == first


def test_a_program_that_was_being_written_by_a_killed_command_is_removed(tmp_path):
    number, _ = run(JAXMED_CACHE=str(tmp_path))
    folder = tmp_path / "compiled"
    programs = list(folder.glob("*-cache"))
    for program in programs:
        program.write_bytes(program.read_bytes()[:100])
        program.with_name(program.name.replace("-cache", "-atime")).unlink()
    # JAX warns of what it cannot read, and an error it would be here.
    assert run(JAXMED_CACHE=str(tmp_path), PYTHONWARNINGS="error")[0] == number
    assert all(program.stat().st_size > 100 for program in programs)


def test_jaxs_own_variables_and_an_unusable_folder_are_respected(tmp_path):
    file = tmp_path / "file"
    file.write_text("not a folder")
    number, hits = run(JAXMED_CACHE=str(file))
    assert hits == 0
    mine = str(tmp_path / "mine")
    assert run(JAXMED_CACHE=str(file), JAX_COMPILATION_CACHE_DIR=mine)[0] == number
    assert list((tmp_path / "mine").glob("jit*-cache"))
