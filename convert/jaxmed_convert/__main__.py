"""The command line: python -m jaxmed_convert torchvision|file|verify|list."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jaxmed.errors import InputError
from jaxmed.progress import progress
from jaxmed_convert.checkpoints import read_checkpoint, require_torch
from jaxmed_convert.published import PUBLISHED, published, resolve

if TYPE_CHECKING:
    from rich.table import Table

    from jaxmed_convert.verify import Row


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except InputError as error:
        print(f"jaxmed_convert: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxmed_convert",
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

    file = commands.add_parser("file", help="convert a .pth, .pt or .safetensors file")
    file.add_argument("name", metavar="arch", help="its architecture")
    file.add_argument("path", help="the file")
    file.set_defaults(command=_file)

    verify = commands.add_parser(
        "verify", help="compare with torchvision, layer by layer"
    )
    verify.add_argument(
        "names", nargs="+", metavar="name", help="several print one line each"
    )
    verify.add_argument(
        "--weights", default="none", help="none (random), torchvision's name, file:PATH"
    )
    verify.add_argument("--image-size", type=int, default=224, help="side in pixels")
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
    from jaxmed_convert.starting_weights import prepare

    weights = resolve(options.name, options.weights)
    return _say(prepare(options.name, weights, cache=options.cache, url=options.url))


def _file(options: argparse.Namespace) -> int:
    from jaxmed_convert.starting_weights import prepare

    return _say(prepare(options.name, f"file:{options.path}", cache=options.cache))


def _say(prepared) -> int:
    for note in prepared.notes or ["Converted before; nothing to do."]:
        print(note)
    print(f"{prepared.name}: {prepared.path}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    for name in options.names:
        published(name)
    if options.image_size < 32:
        raise InputError(f"--image-size must be at least 32, got {options.image_size}.")
    require_torch()
    from jaxmed_convert.verify import TOLERANCE

    results: dict[str, list[Row]] = {}
    with progress("Comparing", len(options.names)) as advance:
        for name in options.names:
            results[name] = _compare(name, options)
            advance(1, done=name)
    if len(results) == 1:
        _print(_layers(*results.values()))
    else:
        _print(_summary(results))
    logits = [rows[-1].relative for rows in results.values()]
    worst, good = max(logits), all(value <= TOLERANCE for value in logits)
    print(
        f"Logits differ by {worst:.1e} of the largest logit, "
        f"{'within' if good else 'ABOVE'} the {TOLERANCE:.0e} allowed "
        f"({options.image_size} px, weights {options.weights})."
    )
    return 0 if good else 1


def _compare(name: str, options: argparse.Namespace) -> "list[Row]":
    from jaxmed_convert import verify
    from jaxmed_convert.starting_weights import source_file

    if options.weights == "none":
        reference = verify.random_reference(name, seed=options.seed)
    else:
        path = source_file(name, options.weights, cache=options.cache)
        reference = verify.loaded_reference(name, read_checkpoint(path).tensors)
    return verify.compare(
        name, reference, image_size=options.image_size, seed=options.seed
    )


def _layers(rows: "list[Row]") -> "Table":
    table = _table("module", "class", "output")
    for row in rows:
        size = "×".join(map(str, row.shape))
        table.add_row(row.name, row.kind, size, *_numbers(row))
    return table


def _summary(results: "dict[str, list[Row]]") -> "Table":
    table = _table("architecture", "modules", "worst module")
    for name, rows in results.items():
        worst = max(rows, key=lambda row: row.relative)
        text = f"{worst.name} {worst.relative:.1e}"
        table.add_row(name, str(len(rows)), text, *_numbers(rows[-1]))
    return table


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(*columns, box=None, header_style="bold")
    table.add_column("max. difference", justify="right")
    table.add_column("relative", justify="right")
    return table


def _numbers(row: "Row") -> tuple[str, str]:
    return f"{row.absolute:.1e}", f"{row.relative:.1e}"


def _list(_options: argparse.Namespace) -> int:
    from rich.table import Table

    table = Table("name", box=None, header_style="bold")
    table.add_column("parameters", justify="right")
    table.add_column("weights")
    table.add_column("ImageNet top-1", justify="right")
    table.add_column("input", justify="right")
    for name, row in PUBLISHED.items():
        default = resolve(name, "imagenet")
        for weights, top1 in row.top1.items():
            first = weights == next(iter(row.top1))
            table.add_row(
                name if first else "",
                f"{row.parameters:,}" if first else "",
                weights + (" (default)" if weights == default else ""),
                f"{top1:.2f} %",
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
