"""Command line of jaxmed_convert: torchvision, file, verify, list."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmed.errors import InputError
from jaxmed.runtime.command_line import run_command
from jaxmed.runtime.progress import progress
from jaxmed_convert.checkpoints.read import read_checkpoint, require_torch
from jaxmed_convert.weights.imagenet import PUBLISHED, pool_of, published, resolve

# verify compares several networks at this size too: no multiple of anything, which is
# where paddings and poolings differ.
OTHER_SIZE = 171
# The smallest images that torchvision's networks take, in pixels, where it is not 32.
SMALLEST = {"inception_v3": 75}
# torchvision's vision transformers, which take images of one size.
VIT = "vit_"

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmed_convert.verify.parity import OutputComparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 2 for input that cannot be used."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: execute(words), lambda: "jaxmed_convert")


def execute(arguments: Sequence[str], prog: str = "python -m jaxmed_convert") -> int:
    """Run one command.

    Args:
        arguments: of the command line.
        prog: the program's name in help and errors.

    Raises:
        InputError: input that cannot be used.
    """
    options = _parser(prog).parse_args(arguments)
    return options.command(options)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Weights between PyTorch and jaxmed.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    fetch = commands.add_parser("torchvision", help="fetch and convert weights")
    fetch.add_argument("name", help="architecture, such as resnet50")
    fetch.add_argument(
        "--weights", default="imagenet", help="torchvision's name of them"
    )
    fetch.add_argument(
        "--url", help="a mirror to fetch from; the file name must be kept"
    )
    fetch.set_defaults(command=_torchvision)

    file = commands.add_parser(
        "file", help="convert a file of torch.save or of safetensors"
    )
    file.add_argument("name", metavar="arch", help="its architecture")
    file.add_argument("path", help="the file")
    file.set_defaults(command=_file)

    verify = commands.add_parser(
        "verify",
        help="compare with torchvision",
        description="Compares torchvision's networks with the converted ones: one "
        "layer by layer, or several by their logits, one line each.",
    )
    verify.add_argument("names", nargs="*", metavar="name", help="architectures")
    verify.add_argument("--all", action="store_true", help="every architecture")
    verify.add_argument(
        "--weights", default="none", help="none (random), torchvision's name, file:PATH"
    )
    verify.add_argument(
        "--image-size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="sides of the images (default: what the weights were evaluated on; with "
        f"several networks {OTHER_SIZE} too)",
    )
    verify.add_argument("--seed", type=int, default=0, help="of weights and images")
    verify.set_defaults(command=_verify)

    for command in (fetch, file, verify):
        command.add_argument(
            "--cache", type=Path, help="folder for downloads and results"
        )
    listing = commands.add_parser("list", help="architectures and published weights")
    listing.set_defaults(command=_list)
    return parser


def _torchvision(options: argparse.Namespace) -> int:
    from jaxmed_convert.weights.pretrained import prepare

    weights = resolve(options.name, options.weights)
    pool = pool_of(options.name, weights)
    if pool != "own":
        print(f'{weights} is no classifier: it is for models with pool="{pool}".')
    location = {"cache": options.cache, "url": options.url}
    return _print_report(prepare(options.name, weights, pool=pool, **location))


def _file(options: argparse.Namespace) -> int:
    from jaxmed_convert.weights.pretrained import prepare

    return _print_report(
        prepare(options.name, f"file:{options.path}", cache=options.cache)
    )


def _print_report(prepared) -> int:
    for note in prepared.notes or ["Converted before; nothing to do."]:
        print(note)
    print(f"{prepared.name}: {prepared.path}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    names = list(PUBLISHED) if options.all else options.names
    if not names:
        raise InputError("Name one or more architectures, or give --all.")
    for name in names:
        published(name)
    for size in options.image_size or ():
        for name in names:
            if name.startswith(VIT) and size != published(name).image_size:
                raise InputError(
                    f"--image-size must be {published(name).image_size} for {name}: "
                    "torchvision's network takes images of this size alone."
                )
            least = SMALLEST.get(name, 32)
            if size < least:
                raise InputError(
                    f"--image-size must be at least {least} for {name}, got {size}."
                )
    require_torch()
    from jaxmed_convert.verify.parity import TOLERANCE

    rows = _verify_one(names[0], options) if len(names) == 1 else []
    rows = rows or _verify_several(names, options)
    worst = max(row.relative for row in rows)
    good = all(row.relative <= TOLERANCE for row in rows)
    print(
        f"Logits differ by {worst:.1e} of the largest logit, "
        f"{'within' if good else 'ABOVE'} the {TOLERANCE:.0e} allowed "
        f"(weights {options.weights})."
    )
    return 0 if good else 1


def _verify_one(name: str, options: argparse.Namespace) -> "list[OutputComparison]":
    """Print every layer's difference and return those of the logits."""
    from jaxmed_convert.verify.parity import compare

    logits = []
    reference, pool = _reference(name, options)
    for size in options.image_size or [published(name).image_size]:
        table = _table("module", "class", "output")
        table.title = f"{name}, {size} px"
        rows = compare(name, reference, image_size=size, seed=options.seed, pool=pool)
        for row in rows:
            shape = "×".join(map(str, row.shape))
            table.add_row(row.name, row.kind, shape, *_numbers(row))
        _print(table)
        logits.append(rows[-1])
    return logits


def _verify_several(
    names: "Sequence[str]", options: argparse.Namespace
) -> "list[OutputComparison]":
    """Print a line for each network and return the differences of the logits."""
    from jaxmed_convert.verify.parity import compare_logits

    table, logits = _table("architecture", "image"), []
    with progress("Comparing", len(names)) as advance:
        for name in names:
            sizes = options.image_size or [published(name).image_size, OTHER_SIZE]
            if name.startswith(VIT):
                sizes = sizes[:1]
            reference, pool = _reference(name, options)
            rows = compare_logits(
                name, reference, image_sizes=sizes, seed=options.seed, pool=pool
            )
            for size, row in zip(sizes, rows, strict=True):
                first = size == sizes[0]
                table.add_row(name if first else "", f"{size} px", *_numbers(row))
            logits += rows
            worst = max(row.relative for row in rows)
            advance(1, last=f"{name} {worst:.1e}")
    _print(table)
    return logits


def _reference(name: str, options: argparse.Namespace):
    """Return torchvision's model, and how it and ours pool."""
    from jaxmed_convert.verify import references
    from jaxmed_convert.weights.pretrained import source_file

    if options.weights == "none":
        return references.random_reference(name, seed=options.seed), "own"
    path = source_file(name, options.weights, cache=options.cache)
    tensors, pool = read_checkpoint(path).tensors, pool_of(name, options.weights)
    if pool == "own":
        return references.loaded_reference(name, tensors), pool
    return references.averaged_reference(name, tensors, seed=options.seed), pool


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold")
    table.add_column("max. difference", justify="right")
    table.add_column("relative", justify="right")
    return table


def _numbers(row: "OutputComparison") -> tuple[str, str]:
    return f"{row.absolute:.1e}", f"{row.relative:.1e}"


def _list(_options: argparse.Namespace) -> int:
    from rich.table import Table

    table = Table("name", box=None, header_style="bold")
    table.add_column("parameters", justify="right")
    table.add_column("weights (* is the default)")
    table.add_column("ImageNet top-1", justify="right")
    table.add_column("input", justify="right")
    for name, row in PUBLISHED.items():
        default = resolve(name, "imagenet")
        for weights, top1 in row.top1.items():
            first = weights == next(iter(row.top1))
            table.add_row(
                name if first else "",
                f"{row.parameters:,}" if first else "",
                weights + ("*" if weights == default else ""),
                "-" if top1 is None else f"{top1:.2f} %",
                f"{row.image_size} px",
            )
    _print(table)
    return 0


def _print(table: "Table") -> None:
    from rich.console import Console

    console = Console()
    # In a file or pipe a table must not be cut to the width of no terminal.
    console = console if console.is_terminal else Console(width=120)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
