"""Contract 12: the training step of every family lowers for CUDA and TPU.

The step is traced as benchmarks/roofline.py traces it.
"""

import re
import runpy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from fixtures.marks import slow_but

FILE = Path(__file__).parents[2] / "benchmarks" / "roofline.py"
trace = runpy.run_path(str(FILE))["trace"]

ROWS = 8
PLATFORMS = ("cuda", "tpu")


@dataclass(frozen=True)
class Family:
    """A small member of a family, and how its step lowered when this was written.

    Attributes:
        name: of the model.
        size: pixels of a side that it is traced at.
        converts, transposes: operations of that kind, which may not become more: each
            may be a pass over the activations that no one asked for.
    """

    name: str
    size: int
    converts: int
    transposes: int


FAMILIES = (
    Family("resnet18", 64, 140, 1),
    Family("vgg11_bn", 64, 119, 9),
    Family("mobilenet_v2", 64, 433, 18),
    Family("densenet121", 64, 744, 1),
    Family("efficientnet_b0", 64, 624, 17),
    Family("inception_v3", 96, 608, 1),
    Family("convnext_tiny", 64, 701, 55),
    Family("vit_tiny_patch16_224", 64, 606, 209),
)


# The default suite lowers the families that compile fast.
USUAL = tuple(f for f in FAMILIES if f.name in ("resnet18", "vgg11_bn", "mobilenet_v2"))


@pytest.mark.parametrize(
    "family", slow_but(USUAL, FAMILIES), ids=lambda family: family.name
)
def test_step_lowers(family):
    traced = trace(family.name, "full", size=family.size, rows=ROWS)
    for platform in PLATFORMS:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        counts = Counter(re.findall(r"stablehlo\.(\w+)", text))
        assert counts["convolution"] > 0
        assert counts["convert"] <= family.converts, platform
        assert counts["transpose"] <= family.transposes, platform
