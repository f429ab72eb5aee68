"""The images that a recipe names, and what there is to say about their splits."""

import re
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from jaxmed.config.schema import DataConfig
from jaxmed.errors import InputError

if TYPE_CHECKING:
    from jaxmed.data.dataset import Dataset
    from jaxmed.data.images.resizing import Resizing
    from jaxmed.data.sources.registry import LoadedSource
    from jaxmed.data.splits.splitting import Splitting

# A validation split of fewer images, and of a smaller part of the training images,
# chooses epochs and thresholds by chance. The chest X-rays on Kaggle have 16 to 5,216.
FEW, SMALL_PART = 50, 0.01
# Names, of letters alone, of a class without what is looked for.
NEGATIVE = (
    "benign",
    "control",
    "healthy",
    "negative",
    "no",
    "nofinding",
    "nofindings",
    "normal",
    "normals",
    "notumor",
    "uninfected",
)
# Reasons for which files are left out that are told, and training images that are
# looked at for their gray levels.
REASONS, LOOKED_AT = 5, 32
X_RAYS = r"person(\d+)_|IM-(\d+)-"


class Datasets(dict[DataConfig, "Dataset"]):
    """Data sets by configuration.

    Subsets of a data set share one loading, and so do the folds of a cross-validation,
    of which one at a time is kept.
    """

    def __init__(self):
        super().__init__()
        self._sources: dict[DataConfig, LoadedSource] = {}

    def add(self, config: DataConfig) -> None:
        """Load a data set unless it is there.

        Raises:
            InputError: see `load_dataset`.
        """
        from jaxmed.data.splits.subset import draw_subset

        if config in self:
            return
        full = without_subset(config)
        if full not in self:
            self[full] = self._load(full)
        data = self[full]
        self[config] = draw_subset(data, config.train_images, config.subset_seed)
        if config.train_images:
            print(
                f"{config.source}: {config.train_images:,} of {len(data.train):,} "
                f"training images, drawn with seed {config.subset_seed}",
                flush=True,
            )

    def _load(self, config: DataConfig) -> "Dataset":
        if not config.cross_validation:
            return load_images(config)
        for other in [loaded for loaded in self if loaded.cross_validation]:
            if other.fold_number != config.fold_number:
                del self[other]
        any_fold = replace(config, fold=0, repeat=0)
        read = any_fold in self._sources
        if not read:
            self._sources[any_fold] = read_source(any_fold)
        splitting = splitting_of(config)
        data = self._sources[any_fold].split(splitting)
        show_notes(data, splitting, of_source=not read)
        return data


def load_images(config: DataConfig) -> "Dataset":
    """Load a data set and split it, and print what is notable; draw no subset.

    Raises:
        InputError: see `load_dataset`.
    """
    splitting = splitting_of(config)
    data = read_source(config).split(splitting)
    show_notes(data, splitting)
    return data


def read_source(config: DataConfig) -> "LoadedSource":
    """Read the images of a source, see `load_source`."""
    from jaxmed.data.sources.registry import load_source

    return load_source(
        config.source,
        image_size=config.image_size,
        resizing=resizing_of(config),
        splitting=splitting_of(config),
        memory_budget=None if config.memory < 0 else config.memory,
        on_error=config.on_error,
        window=config.window,
    )


def show_notes(
    data: "Dataset", splitting: "Splitting", *, of_source: bool = True
) -> None:
    """Print what is notable about a split, and about the images of the source."""
    notes = [*notes_on_files(data), *notes_on_labels(data)] if of_source else []
    for note in [*notes, *notes_on_split(data, splitting)]:
        print(note, flush=True)


def load_part(config: DataConfig) -> "Dataset":
    """Load a data set as `load_images` does, and draw the subset to train on."""
    from jaxmed.data.splits.subset import draw_subset

    data = load_images(config)
    return draw_subset(data, config.train_images, config.subset_seed)


def without_subset(config: DataConfig) -> DataConfig:
    """Return the configuration of all training images."""
    return replace(config, train_images=0, subset_seed=0)


def resizing_of(config: DataConfig) -> "Resizing":
    """Return the part of the configuration that says how images become squares.

    Raises:
        InputError: a factor, and nothing is cropped.
    """
    from jaxmed.data.images.resizing import Resizing

    if config.resize != "crop" and config.resize_factor != DataConfig.resize_factor:
        raise InputError(
            f"data.resize_factor is {config.resize_factor}, and data.resize is "
            f"{config.resize}, which has no factor. Set data.resize to crop, or leave "
            "data.resize_factor out."
        )
    return Resizing(mode=config.resize, factor=config.resize_factor)


def splitting_of(config: DataConfig) -> "Splitting":
    """Return the part of the configuration that says what train, val and test are."""
    from jaxmed.data.splits.splitting import Splitting

    options = {field.name: getattr(config, field.name) for field in fields(Splitting)}
    options["fold"] = max(config.fold, 0)
    if config.cross_validation and config.split == "given":
        options["split"] = "auto"
    return Splitting(**options)


def notes_on_files(data: "Dataset") -> list[str]:
    """Return sentences on files left out, on gray values, and on files not read."""
    from jaxmed.data.dataset import SPLITS
    from jaxmed.data.images.lazy import LazyImages
    from jaxmed.data.images.window import STORED_BITS

    notes = []
    reasons: dict[str, list[str]] = {}
    for name, reason in data.skipped.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in [*reasons.items()][:REASONS]:
        notes.append(
            f"{data.source}: {len(names):,} left out, such as {names[0]} ({reason})"
        )
    if len(reasons) > REASONS:
        more = sum(map(len, [*reasons.values()][REASONS:]))
        notes.append(f"{data.source}: {more:,} more left out for other reasons")
    if data.window != STORED_BITS:
        notes.append(
            f"{data.source}: of gray values, black to white is "
            f"{data.window.describe()}; see --data.window"
        )
    notes += notes_on_levels(data)
    if isinstance(data.train.images, LazyImages):
        size = sum(getattr(data, name).images.nbytes for name in SPLITS)
        notes.append(
            f"{data.source}: decoded images would take {size / 1e9:.3g} GB, so they "
            "are decoded when they are needed; see --data.memory"
        )
    return notes


def notes_on_labels(data: "Dataset") -> list[str]:
    """Return sentences on what the loader decided, and on a doubtful positive class.

    Names in sorted order make "Normal" the positive class beside "Atelectasis".
    """
    notes = [f"{data.source}: {note}" for note in data.notes]
    if data.task == "binary":
        first, positive = data.class_names
        if is_negative(positive) and not is_negative(first):
            mark = "&" if "?" in data.source else "?"
            notes.append(
                f"{data.source}: the positive class is {positive}, the last one; "
                f"{mark}positive={first} behind the source makes it {first}"
            )
    return notes


def is_negative(name: str) -> bool:
    """Tell whether a class is, by its name, the absence of what is looked for."""
    return re.sub(r"[\W_]", "", name.casefold()) in NEGATIVE


def notes_on_levels(data: "Dataset") -> list[str]:
    """Return a sentence if training images have lost their gray levels.

    A few of them are looked at, spread over the split.
    """
    import numpy as np

    from jaxmed.data.images.window import count_levels, has_few_levels

    rows = np.linspace(0, len(data.train) - 1, min(LOOKED_AT, len(data.train)))
    images = data.train.images[np.unique(rows.astype(int))]
    few = [image for image in images if has_few_levels(image)]
    if 2 * len(few) <= len(images):
        return []
    levels = np.median([count_levels(image) for image in few])
    return [
        f"{data.source}: training images have few gray levels, {levels:.0f} of 256. If "
        "their files have more than 8 bits, --data.window says which of their values "
        "become black and white, as in percentile:1,99"
    ]


def notes_on_split(data: "Dataset", splitting: "Splitting") -> list[str]:
    """Return sentences on groups, unknown labels and a validation split too small."""
    from jaxmed.data.dataset import MISSING, SPLITS
    from jaxmed.data.labels import lacking_classes
    from jaxmed.data.splits.grouping import torn_groups

    parts = {name: getattr(data, name) for name in SPLITS}
    groups = {name: part.groups for name, part in parts.items() if part.groups}
    sizes = ", ".join(f"{len(part):,} {name}" for name, part in parts.items())
    notes = []
    if splitting.split != "given":
        kept = ", test as the source has it" if splitting.keep_test else ""
        notes.append(f"{data.source}: split {splitting.split}{kept}, {sizes} images")
    if groups:
        names = {group for split in groups.values() for group in split}
        alone = sum(
            group == identity
            for name, split in groups.items()
            for group, identity in zip(split, parts[name].ids, strict=True)
        )
        singles = f", {alone:,} of them single images whose names show no group"
        notes.append(f"{data.source}: {len(names):,} groups{singles if alone else ''}")
    if torn := torn_groups(groups):
        notes.append(
            f"{data.source}: {len(torn):,} groups have images in more than one split "
            f"(the first is {torn[0]}), so that results will look better than they "
            "are. --data.split patient keeps groups whole."
        )
    labels = [part.labels for part in parts.values()]
    if unknown := sum((group == MISSING).sum() for group in labels):
        notes.append(
            f"{data.source}: {unknown:,} of {sum(group.size for group in labels):,} "
            "labels are not known; loss and metrics leave them out"
        )
    for name, part in parts.items():
        if lacking := lacking_classes(part.labels, data.task, data.class_names):
            means = "be learned" if name == "train" else "be measured there"
            notes.append(
                f"{data.source}: no image of {', '.join(lacking)} in {name}, so it "
                f"cannot {means}"
            )
    few = len(data.val) < min(FEW, SMALL_PART * len(data.train))
    if splitting.split == "given" and few:
        notes.append(
            f"{data.source}: {len(data.val):,} validation images, to "
            f"{len(data.train):,} of training, choose epoch and threshold by chance. A "
            "better split, of all images or with --data.keep-test true of those that "
            f"are not test: {_recommend(data)}"
        )
    return notes


def _recommend(data: "Dataset") -> str:
    """Return the flags that split all images better."""
    if data.train.groups:
        return "--data.split patient"
    matched = sum(
        re.search(X_RAYS, identity) is not None for identity in data.train.ids
    )
    if 2 * matched > len(data.train):
        return f"--data.split patient --data.group-pattern '{X_RAYS}'"
    return (
        "--data.split stratified (or patient with --data.group-pattern, if patients "
        "have several images)"
    )
