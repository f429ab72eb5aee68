"""`run` of a recipe with one arm: one of the two programs of `whole_run.py`."""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from program_arguments import program_parser

RECIPE = """
[data]
source = "npz:{data}"
image_size = {size}
train_images = {images}
[model]
backbone = "resnet18"
weights = "file:{weights}"
[train]
strategy = "{task}"
batch_size = 32
seeds = {seeds}
options = {{ optimizer = "adam", epochs = {epochs}, learning_rate = {rate}{more} }}
[explain]
images = {maps}
[arms.only]
"""


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        # Before jaxmed is imported.
        os.environ["JAXMED_CACHE"] = str(Path(folder, "cache"))
        if arguments.keep_compiled:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(arguments.keep_compiled)
        from jaxmed.experiments.__main__ import main as jaxmed

        recipe = Path(folder, "whole.toml")
        rate = arguments.learning_rate
        partial = arguments.task == "partial"
        recipe.write_text(
            RECIPE.format(
                **vars(arguments) | {"seeds": list(range(arguments.seeds))},
                rate=rate,
                more=f", head_learning_rate = {rate}" if partial else "",
            )
        )
        if code := jaxmed(["run", str(recipe), "--out", folder]):
            sys.exit(code)
        metrics = sorted(Path(folder, "whole", "only").glob("seed-*/metrics.json"))
        scores = [
            json.loads(path.read_text())["test"]["auroc"]["value"] for path in metrics
        ]
    arguments.out.write_text(json.dumps({"test_auroc": scores}))


def parse() -> argparse.Namespace:
    parser = program_parser(__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--maps", type=int, default=16)
    parser.add_argument("--keep-compiled", type=Path, help="a folder for it")
    return parser.parse_args()


if __name__ == "__main__":
    main()
