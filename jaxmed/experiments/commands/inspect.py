"""`inspect`: the sheet of a data set, and whether anything leaks between its splits."""

import json
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxmed.config.recipes import find_recipe, is_path, load_recipe, recipe_files
from jaxmed.config.schema import DataConfig
from jaxmed.config.sections import build_config
from jaxmed.errors import InputError
from jaxmed.experiments.commands.arguments import add_out
from jaxmed.runs.layout import SAMPLES, check_writable
from jaxmed.runtime.files import write_text

if TYPE_CHECKING:
    from jaxmed.data import Dataset
    from jaxmed.data.audit.audit import Audit
    from jaxmed.report.pages.data_sheet import DuplicatePair

HELP = "look a data set through: counts, duplicates, patients on both sides"
DESCRIPTION = """\
Writes OUT/inspect-NAME.html, a page with counts, sample and mean images, duplicates and
patients on both sides of a split, and inspect-NAME.json with everything it found.
Exit code: 0; 1 if an image (exact or near duplicate) or a patient is in more than one
split; 2 for bad input. Files that cannot be read stop it with their names, or with
--data.on-error skip are left out and listed."""
FIELDS = """\
The fields of a recipe's [data] are flags, as for `run`, whose --help lists them:
  inspect folder:scans --data.image-size 320 --group-pattern 'patient(\\d+)'
Of a recipe, the images of the first arm are taken."""
PAIRS_SHOWN = 12
LEAKS = 1


def add_arguments(parser: Any) -> None:
    """Declare the command's arguments; the configuration's are taken out before."""
    parser.add_argument(
        "source",
        metavar="SOURCE_OR_RECIPE",
        help="such as folder:scans, npz:FILE or medmnist:NAME; or a recipe, by name "
        "or path",
    )
    add_out(parser, "folder for the page")
    parser.add_argument(
        "--group-pattern",
        metavar="REGEX",
        default="",
        help="finds the patient in an image's id, with parentheses around the name",
    )
    parser.description = DESCRIPTION
    parser.epilog = FIELDS


def execute(arguments: Any) -> int:
    """Carry the command out.

    Returns:
        The exit code: 1 if something leaks, else 0.
    """
    name, config = _choose(arguments.source, arguments.overrides)
    check_writable(arguments.out, "Give another --out.")
    from jaxmed.data.audit.audit import audit
    from jaxmed.experiments.pipeline.load_data import load_part
    from jaxmed.report.text.audit import (
        count_lines,
        finding_sentences,
        leakage_sentence,
    )

    data = load_part(config)
    scheme, _, rest = config.source.partition(":")
    files = scheme in ("folder", "dicom")
    root = Path(rest.partition("?")[0]).expanduser() if files else None
    result = audit(data, group_pattern=arguments.group_pattern, root=root)
    page = write_sheet(arguments.out, name or data.name, data, result)
    table = result.table()
    lines = [
        *count_lines(table),
        *finding_sentences(table),
        "",
        leakage_sentence(table),
    ]
    print("\n".join(lines))
    print(f"Page: {page}")
    return LEAKS if any(result.leaks.values()) else 0


def write_sheet(out: Path, name: str, data: "Dataset", audit: "Audit") -> Path:
    """Write the JSON and the page.

    Args:
        out: the folder.
        name: what follows "inspect-".
        data: whose pictures are shown.
        audit: what was found in it.

    Returns:
        The path of the page.
    """
    from jaxmed.experiments.pipeline.sample_images import write_samples
    from jaxmed.report.pages.data_sheet import build_data_sheet

    table = audit.table()
    stem = "inspect-" + re.sub(r"[^A-Za-z0-9_.-]+", "-", name)
    write_text(out / f"{stem}.json", json.dumps(table, indent=1, ensure_ascii=False))
    page = out / f"{stem}.html"
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder), data)
        build_data_sheet(
            page,
            table,
            samples=Path(folder) / SAMPLES,
            means=audit.means,
            pairs=_duplicate_pairs(data, table),
        )
    return page


def _choose(source: str, overrides: dict[str, Any]) -> tuple[str, DataConfig]:
    """Return a recipe's name, "" for a source, and which images are meant."""
    from jaxmed.data.sources.registry import list_schemes

    if other := sorted(set(overrides) - {"data"}):
        raise InputError(
            f"inspect takes the fields of [data] as flags, and no --{other[0]}."
        )
    schemes = list_schemes()
    if source.partition(":")[0] in schemes:
        if "source" in overrides.get("data", {}):
            raise InputError(f"--data.source is given twice, as {source} too.")
        data = {"source": source} | overrides.get("data", {})
        return "", build_config({"name": "inspect", "data": data}, "Flags").data
    if not is_path(source) and source not in recipe_files():
        raise InputError(
            f"{source!r} is neither a source of images, SCHEME:REST with one of "
            f"{', '.join(sorted(schemes))}, nor the name or path of a recipe."
        )
    recipe = load_recipe(find_recipe(source), overrides)
    return recipe.name, recipe.base.data


def _duplicate_pairs(data: "Dataset", table: dict[str, Any]) -> "list[DuplicatePair]":
    """Chooses duplicates to show: across splits first, then with different labels."""
    from jaxmed.report.pages.data_sheet import DuplicatePair

    groups = [*table["duplicates"]["exact"], *table["duplicates"]["near"]]
    groups.sort(
        key=lambda group: (not group["across_splits"], not group["labels_differ"])
    )
    splits = (data.train, data.val, data.test)
    images = {
        name: (split.images, index)
        for split in splits
        for index, name in enumerate(split.ids)
    }
    pairs = []
    for group in groups[:PAIRS_SHOWN]:
        first, second = (images[name] for name in group["ids"][:2])
        pair = (first[0][first[1]], second[0][second[1]])
        pairs.append(DuplicatePair(group=group, images=pair))
    return pairs
