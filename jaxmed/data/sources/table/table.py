"""`table:PATH`: a CSV or Parquet file with a row for each image.

    path,label,patient,split
    IM-0001.jpeg,NORMAL,17,train
    person1_1.jpeg,PNEUMONIA,1,val

Columns that go by other names are named behind a question mark, and so are the folders
of the images, where they are not the table's own, and their ending:

    table:cohort.csv?path=file&label=diagnosis&patient=pid&split=fold&root=../images
    table:cohort.csv?path=image_id&root=part_1,part_2&ext=.jpg

Paths are resolved as far as they have one meaning
(`jaxmed.data.sources.table.image_paths`).

Several labels of an image are columns of 0 and 1 whose names begin with "label_", or
that are named, or one column whose cells hold several:

    table:cohort.csv?label=Effusion,Nodule,Mass&uncertain=zeros&blank=zeros
    table:cohort.csv?label=findings&sep=|&none=No Finding

An empty cell of such columns is a label that is not known, which loss and metrics leave
out, and so is -1, for uncertain; `blank` and `uncertain` make them 0 ("zeros"), 1
("ones") or an error. Columns of which exactly one is 1 in every row are classes that
exclude each other, unless `task=multilabel` is said. The order of classes is said as
for every source (`jaxmed.data.sources.source_options`); grades that are numbers from 0
up need none:

    table:cohort.csv?classes=well,ill
    table:cohort.csv?label=grade&task=ordinal&classes=none,mild,severe

Splits that are files are named: another table of the same columns, or a text file that
names images of this one, one a line; all other rows are train:

    table:train.csv?test=valid.csv
    table:cohort.csv?test=test_list.txt

All other columns are left alone, unless they are named to be carried along, as
properties of the images, into what is predicted of them:

    table:cohort.csv?columns=site,sex

"%26" stands for "&" in a name, and "%2C" for a comma, as in addresses.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxmed.data.dataset import SPLITS, SourceImages, Split
from jaxmed.data.images.load import cannot_use
from jaxmed.data.images.open import open_images
from jaxmed.data.labels import MISSING, lacking_classes
from jaxmed.data.sources.source_options import LOAD_OPTIONS, LoadOptions, Options
from jaxmed.data.sources.table.columns import Columns, find_columns, parse_source
from jaxmed.data.sources.table.image_paths import Resolver
from jaxmed.data.sources.table.label_cells import LabelReader, Labels
from jaxmed.data.sources.table.label_columns import is_empty, spell_label
from jaxmed.data.sources.table.reader import Rows, read_rows
from jaxmed.data.splits.split_file import find_role
from jaxmed.data.splits.splitting import Splitting, check_given
from jaxmed.errors import InputError


def load_table(rest: str, options: LoadOptions = LOAD_OPTIONS) -> SourceImages:
    """Load `table:PATH`.

    Classes are the labels in sorted order, whole numbers by value, unless the source
    gives another order; two make a binary task, of which the second is the positive
    class. Ids are the images' paths, in the order of the rows; groups are the patients,
    where there is a column of them.

    Args:
        rest: the path of the table, with what stands for its columns; see above.
        options: see `LoadOptions`.

    Raises:
        InputError: the table cannot be read, a column is missing, rows cannot be used
            (the sentence names them), or a split or a class has no images.
    """
    path, query = parse_source(rest)
    where = f"table:{path}"
    splitting = options.splitting
    rows = read_rows(path)
    columns = find_columns(rows, query, where)
    rows, origin = _add_splits(rows, columns, query, path)
    reader = LabelReader(rows, columns, options.naming, where)
    resolver = Resolver(
        roots=[path.parent / Path(r).expanduser() for r in query.get("root", (".",))],
        ending=query.get("ext", ("",))[0].lower(),
    )
    # What cannot be used: each row's first reason.
    bad: dict[int, str] = {}
    ids = resolver.resolve(rows.columns[columns.path], bad)
    origin = origin or _read_splits(rows, columns, bad, splitting)
    reader.check(bad)
    if columns.patient is not None:
        for i, patient in enumerate(rows.columns[columns.patient]):
            if is_empty(patient):
                bad.setdefault(i, f"no {columns.patient}")
    repeats = _find_repeats(ids, rows, columns, origin, bad)
    if bad and not (options.reading.skips and len(bad) < len(rows.locations)):
        reasons = [f"{rows.locations[i]} ({bad[i]})" for i in sorted(bad)]
        raise cannot_use(where, reasons, len(rows.locations), "rows")
    check_given(where, {*origin}, splitting)
    # The rows that are left, their labels and splits.
    left = [i for i in range(len(ids)) if i not in bad and i not in repeats]
    labels = reader.read(left)
    notes = [*resolver.notes(), *labels.notes]
    if repeats:
        notes.append(f"{len(repeats):,} rows repeat an image with the same label")
    members: dict[str, list[int]] = {split: [] for split in (*SPLITS, "")}
    for position, i in enumerate(left):
        members[origin[i]].append(position)
    members = {split: positions for split, positions in members.items() if positions}
    _check_members(members, labels, where, pooled=not splitting.is_given)
    opened = open_images(
        resolver.top,
        {
            split: [ids[left[i]] for i in positions]
            for split, positions in members.items()
        },
        where=where,
        image_size=options.image_size,
        reading=options.reading,
        cache=options.cache,
    )
    splits = {}
    for split, kept in opened.rows.items():
        positions = [members[split][i] for i in kept]
        part = rows.take([left[i] for i in positions])
        splits[split] = Split(
            images=opened.images[split],
            labels=labels.labels[positions],
            ids=tuple(ids[left[i]] for i in positions),
            groups=tuple(part.columns[columns.patient]) if columns.patient else None,
            columns={
                name: tuple(
                    "" if is_empty(cell) else cell for cell in part.columns[name]
                )
                for name in columns.others
            },
        )
    return SourceImages(
        name=path.stem,
        source=f"table:{rest}",
        task=labels.task,
        class_names=labels.class_names,
        splits=splits,
        skipped={rows.locations[i]: bad[i] for i in sorted(bad)} | opened.skipped,
        notes=tuple(notes),
    )


def _add_splits(
    rows: Rows, columns: Columns, query: Options, path: Path
) -> tuple[Rows, list[str]]:
    """Adds tables of other splits, and returns the split of each row.

    The splits are empty if no file names one.
    """
    files = {
        split: path.parent / Path(*query[split]).expanduser()
        for split in ("val", "test")
        if split in query
    }
    origin = ["train"] * len(rows.locations) if files else []
    for split, file in files.items():
        if file.suffix.lower() != ".txt":
            other = read_rows(file)
            rows = rows.join(other, file.name)
            origin += [split] * len(other.locations)
            continue
        cells = rows.columns[columns.path]
        names = {name for row in _read_lines(file) for name in [row.strip()] if name}
        for i, cell in enumerate(cells):
            if cell in names or cell.replace("\\", "/").rpartition("/")[2] in names:
                origin[i] = split
        if split not in origin:
            raise InputError(
                f"{file} names no image of {path}; a line is a name as in the column "
                f"{columns.path!r}, such as {cells[0]}."
            )
    return rows, origin


def _read_lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"The list of images {file} cannot be read: {error}."
        ) from error


def _read_splits(
    rows: Rows, columns: Columns, bad: dict[int, str], splitting: Splitting
) -> list[str]:
    """Returns the split that the table says of each row, "" where that is none."""
    if columns.split is None:
        return [""] * len(rows.locations)
    cells = rows.columns[columns.split]
    roles = [find_role(cell) or "" for cell in cells]
    if splitting.uses_origin:
        for i, (cell, role) in enumerate(zip(cells, roles, strict=True)):
            if not role:
                bad.setdefault(
                    i, f"the split is {cell!r}, and not one of {', '.join(SPLITS)}"
                )
    return roles


def _find_repeats(
    ids: Sequence[str],
    rows: Rows,
    columns: Columns,
    origin: Sequence[str],
    bad: dict[int, str],
) -> set[int]:
    """Returns rows that repeat another one's image and all that counts of it.

    Rows of one image that contradict each other are noted in `bad`, all of them.
    """
    by_image: dict[str, list[int]] = {}
    for i, name in enumerate(ids):
        if name:
            by_image.setdefault(name, []).append(i)
    kept = {name: rows.columns[name] for name in columns.labels}
    if columns.patient:
        kept[columns.patient] = rows.columns[columns.patient]
    repeats: set[int] = set()
    for name, indices in by_image.items():
        if len(indices) == 1:
            continue
        first = indices[0]
        compared = {
            f"another {column}": [spell_label(cells[i]) for i in indices]
            for column, cells in kept.items()
        }
        compared["another split"] = [origin[i] for i in indices]
        differs = [noun for noun, values in compared.items() if len(set(values)) > 1]
        for i in indices:
            other = rows.locations[first if i != first else indices[1]]
            if differs:
                bad.setdefault(i, f"{name} has {differs[0]} in {other}")
        if not differs:
            repeats |= set(indices[1:])
    return repeats


def _check_members(
    members: Mapping[str, Sequence[int]], parsed: Labels, where: str, *, pooled: bool
) -> None:
    """Refuses a class that training would not see, before any image is decoded."""
    unsplit = pooled or "" in members
    scope = "the table" if unsplit else "the split 'train'"
    labels = parsed.labels if unsplit else parsed.labels[members["train"]]
    if parsed.task == "multilabel":
        for name, column in zip(parsed.class_names, labels.T, strict=True):
            if (column == MISSING).all():
                raise InputError(
                    f"{where}: no row of {scope} has a value of {name!r}, so it cannot "
                    f"be learned. Name the labels to take, as in '{where}?label=A,B'."
                )
    lacking = lacking_classes(labels, parsed.task, parsed.class_names)
    if lacking and parsed.task != "multilabel":
        raise InputError(
            f"{where}: {scope} has no {', '.join(lacking)}. Leave such classes out, or "
            "name the columns to take, as in '?label=A,B'."
        )
