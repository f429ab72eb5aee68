"""Parameters of one's own: the example of docs/training.md, as it stands."""

import re
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

import jaxmed
from jaxmed.models.parameters import load, split
from jaxmed.models.registry import create_model
from jaxmed.strategies import merge_adapter

TEXT = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
(EXAMPLE,) = re.findall(
    r"### Parameters of your own\n.*?```python\n(.*?)```", TEXT, re.DOTALL
)


@pytest.mark.usefixtures("small_vits")
def test_the_example_is_short_trains_and_merges(quarters):
    assert len([line for line in EXAMPLE.splitlines() if line]) < 25
    names: dict = {}
    exec(EXAMPLE, names)
    model = create_model("vit_small_patch16_224", num_classes=3)
    base = split(model).params
    jaxmed.fit(model, quarters, names["ia3"], batch_size=10)
    params = split(model).params
    added = params.keys() - base.keys()
    assert added == {f"backbone.blocks.{block}.mlp.fc1.ia3" for block in (0, 1)}
    assert all(np.ptp(params[path]) > 0 for path in added)
    assert all(
        np.array_equal(params[path], base[path])
        for path in base
        if not path.startswith("head.")
    )
    # Larger than five epochs made them, so that leaving them out would show.
    load(model, {p: 3 * a if p in added else a for p, a in params.items()})
    images = np.random.default_rng(0).standard_normal((2, 12, 12, 3), np.float32)
    run = nnx.jit(lambda model, images: model(images))
    expected = run(model, images)
    merge_adapter(model)
    assert split(model).params.keys() == base.keys()
    np.testing.assert_allclose(run(model, images), expected, rtol=1e-4, atol=1e-5)
