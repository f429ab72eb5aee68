"""New train, val and test splits: stratified, by patient, in folds, or from a file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jaxmed.data.dataset import SPLITS, Dataset, SourceImages, Split
from jaxmed.data.images.lazy import join_images
from jaxmed.data.labels import lacking_classes
from jaxmed.data.splits.allocation import allocate, memberships, spread
from jaxmed.data.splits.grouping import find_groups
from jaxmed.data.splits.split_file import read_split
from jaxmed.errors import InputError, unknown

FILE = "file:"
KINDS = ("given", "stratified", "patient", "auto")
# Of val and of test.
DEFAULT_SHARES = (0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Splitting:
    r"""Settings of a split into train, val and test.

    Attributes:
        split: "given", as the source has it; "stratified", anew from all images of
            the source, each class with its share; "patient", so too but never a group
            in two splits; "auto", "patient" where groups are known, else "stratified";
            "file:PATH", as `write_split` wrote it.
        group_pattern: finds an image's group in its id, see `find_groups`; empty for
            what the source says.
        split_seed: of a split made anew, at least 0.
        val_share, test_share: of the images, each above 0, below 1 together.
        keep_test: whether test stays as the source has it, and only the other images
            are split anew, of which `val_share` become val.
        folds: 0; or at least 3 parts of equal size, of which number `fold` (from 0) is
            test.
        fold: below `folds`.
        fold_val: "next": the next fold, or behind the last the first, is val; "cut":
            `val_share` of the images outside of the test fold are.
        repeat: another division into folds for every number, with the same seed.

    Raises:
        InputError: a setting out of its range, or one that has no effect.

    Examples:
        >>> splitting = Splitting(split="patient", group_pattern=r"person(\d+)_")
        >>> splitting.is_new
        True
        >>> Splitting(split="patients")
        Traceback (most recent call last):
        jaxmed.errors.InputError: Unknown split 'patients'. Did you mean 'patient'?
    """

    split: str = "given"
    group_pattern: str = ""
    split_seed: int = 0
    val_share: float = DEFAULT_SHARES[0]
    test_share: float = DEFAULT_SHARES[1]
    keep_test: bool = False
    folds: int = 0
    fold: int = 0
    fold_val: str = "next"
    repeat: int = 0

    def __post_init__(self) -> None:
        if self.split not in KINDS and not self.split.startswith(FILE):
            raise unknown("split", self.split, (*KINDS, f"{FILE}PATH"))
        for name in ("split_seed", "val_share", "test_share", "keep_test", "folds"):
            if not self.is_new and getattr(self, name) != getattr(Splitting, name):
                raise InputError(
                    f"{name} is for a split that is made anew, and split is "
                    f"{self.split!r}. Set split to stratified or patient."
                )
        if self.keep_test and (self.folds or self.test_share != DEFAULT_SHARES[1]):
            raise InputError(
                "keep_test keeps the test images of the source, so test_share and "
                "folds have no effect. Leave them out."
            )
        if self.folds == 0:
            self._check_shares()
        elif self.folds < 3:
            raise InputError(
                f"folds must be 0 or at least 3 (for train, val and test), got "
                f"{self.folds}."
            )
        elif not 0 <= self.fold < self.folds:
            raise InputError(
                f"fold must be from 0 to {self.folds - 1}, of {self.folds} folds; got "
                f"{self.fold}."
            )
        elif self.fold_val not in ("next", "cut"):
            raise unknown("fold_val", self.fold_val, ("next", "cut"))
        elif self.fold_val == "cut" and self.test_share == DEFAULT_SHARES[1]:
            if not 0 < self.val_share < 1:
                raise InputError(
                    f"val_share must be above 0 and below 1, got {self.val_share}."
                )
        elif (self.val_share, self.test_share) != DEFAULT_SHARES:
            raise InputError(
                f"With folds = {self.folds}, a fold is test, and one is val unless "
                "fold_val is cut, so test_share, and val_share then, have no effect. "
                "Leave them out."
            )
        if self.split_seed < 0 or self.repeat < 0:
            raise InputError(
                f"split_seed and repeat must be at least 0, got {self.split_seed} and "
                f"{self.repeat}."
            )

    @property
    def is_new(self) -> bool:
        """Whether images are shared out, and not as the source or a file has them."""
        return self.split in ("stratified", "patient", "auto")

    @property
    def is_given(self) -> bool:
        """Whether all splits stay as the source has them."""
        return self.split == "given"

    @property
    def uses_origin(self) -> bool:
        """Whether it matters which split the source has an image in."""
        return self.is_given or self.keep_test

    def _check_shares(self) -> None:
        val, test = self.val_share, 1e-9 if self.keep_test else self.test_share
        if not (val > 0 and test > 0 and val + test < 1):
            raise InputError(
                "val_share and test_share must be above 0 and below 1 together, got "
                f"{val} and {test}."
            )
        if self.fold or self.repeat or self.fold_val != "next":
            raise InputError("fold, fold_val and repeat are of folds, and folds is 0.")


GIVEN = Splitting()


def make_split(data: Dataset | SourceImages, splitting: Splitting) -> Dataset:
    """Split the images of a source.

    Args:
        data: with splits or without.
        splitting: how.

    Returns:
        The data set with these splits, in each of them the images in the order of the
        source. Ids stay, so an image "val/0007" can be in train. Splits have groups
        if the pattern, the source or the file says them.

    Raises:
        InputError: no groups for a split by patient, too few images or groups, a file
            that does not fit, or images without splits that are to be as given.
    """
    splits = tuple(data.splits.values())
    ids = tuple(identity for split in splits for identity in split.ids)
    groups = join_groups(splits)
    if splitting.group_pattern:
        groups = find_groups(ids, splitting.group_pattern)
    if splitting.is_given:
        check_given(data.source, data.splits, splitting)
        return _build(data, _keep(data.splits, groups))
    if len({split.images.shape[1:] for split in splits}) > 1:
        raise InputError(
            f"{data.source}: the images of train, val and test differ in size, so no "
            "other split can be made of them. Leave split as given."
        )
    if splitting.split.startswith(FILE):
        path = Path(splitting.split.removeprefix(FILE)).expanduser()
        parts, named = read_split(path, ids, data.source)
        groups = groups or named
    else:
        parts = _divide(splits, groups, data, splitting)
    for i, name in enumerate(SPLITS):
        if i not in parts:
            raise InputError(
                f"{data.source}: no image is left for {name}. There are {len(ids):,} "
                f"images in {len(set(groups or ids)):,} groups; change the shares, the "
                "folds or the file."
            )
    _check_trained(np.concatenate([s.labels for s in splits]), parts, data, splitting)
    rows = {name: np.flatnonzero(parts == i) for i, name in enumerate(SPLITS)}
    return _build(data, {name: gather(splits, rows[name], groups) for name in rows})


def check_given(source: str, present: Collection[str], splitting: Splitting) -> None:
    """Checks that a source has the splits that are to be as it has them.

    Args:
        source: for the sentence.
        present: those of train, val and test that it has; "" if also others.
        splitting: what is wanted.

    Raises:
        InputError: it has not; the sentence says which split can be made.
    """
    lacking = [name for name in SPLITS if name not in present]
    if "" in present and not lacking:
        lacking, present = [*SPLITS], ()
    names = " and ".join(name for name in SPLITS if name in present)
    anew = "Set split to patient (with group_pattern) or stratified"
    if splitting.keep_test and "test" not in present:
        raise InputError(
            f"{source} has no test split that could be kept. Leave keep_test out."
        )
    if not splitting.is_given or not lacking:
        return
    if not names:
        raise InputError(
            f"{source} has no train, val and test, so the split cannot be given. "
            f"{anew}."
        )
    if "test" in present:
        raise InputError(
            f"{source} has {names}, and no {' and no '.join(lacking)}. {anew}, and "
            "keep_test to true, which keeps test as it is and takes val from the "
            "other images."
        )
    raise InputError(
        f"{source} has {names}, and no {' and no '.join(lacking)}. {anew}, which "
        "divides all its images."
    )


def _divide(
    splits: Sequence[Split],
    groups: Sequence[str] | None,
    data: Dataset | SourceImages,
    splitting: Splitting,
) -> np.ndarray:
    """Returns the new split of each image, as an index of `SPLITS`."""
    labels = np.concatenate([split.labels for split in splits])
    if splitting.split == "patient" and groups is None:
        raise InputError(
            f"{data.source} does not say which images are of one patient. Give "
            "group_pattern, which finds it in the ids, or set split to stratified."
        )
    check_given(data.source, data.splits, splitting)
    origin = np.repeat([*data.splits], [len(split) for split in splits])
    parts = np.full(len(labels), SPLITS.index("test"))
    free = np.flatnonzero(origin != "test") if splitting.keep_test else slice(None)
    labels = labels[free]
    known = splitting.split == "auto" and groups is not None
    if splitting.split == "patient" or known:
        group_of = np.unique(np.array(groups, object)[free], return_inverse=True)[1]
    else:
        group_of = np.arange(len(labels))
    parts[free] = _share_out(labels, group_of, data, splitting)
    return parts


def _share_out(
    labels: np.ndarray,
    group_of: np.ndarray,
    data: Dataset | SourceImages,
    splitting: Splitting,
) -> np.ndarray:
    """Returns the new split of each image that is free to be in any.

    Args:
        labels: of n images.
        group_of: the group of each, int (n,), from 0.
        data, splitting: see `make_split`.
    """
    if len(labels) == 0:
        raise InputError(f"{data.source} has images of test alone.")
    single = memberships(labels, data.task, data.class_names)
    members = np.zeros((group_of.max() + 1, single.shape[1]))
    np.add.at(members, group_of, single)
    has = members[:, : len(data.class_names)] > 0
    if data.task == "multilabel":
        # A split without a negative says as little of a label.
        without = np.zeros_like(has, int)
        np.add.at(without, group_of, labels == 0)
        has = np.hstack([has, without > 0])
    rng = np.random.default_rng([splitting.split_seed, splitting.repeat])
    folds, val, test = splitting.folds, splitting.val_share, splitting.test_share
    if folds:
        shares = [1 / folds] * folds
        # In turn each is test, and the one after it val.
        views = [[(k + i) % folds for i in range(2, folds)] for k in range(folds)]
    else:
        shares = [1 - val, val] if splitting.keep_test else [1 - val - test, val, test]
        views = [[0]]
    parts = spread(allocate(members, shares, rng), has, shares, views)
    if folds:
        _check_folds(parts, has, views, data)
        # 0 is the test fold then, and 1 the one after it.
        turned = (parts - splitting.fold) % folds
        parts = np.select([turned == 0, turned == 1], [2, 1], 0)
        if splitting.fold_val == "cut":
            rest = np.flatnonzero(turned != 0)
            seeds = [splitting.split_seed, splitting.repeat, splitting.fold]
            rng = np.random.default_rng(seeds)
            shares = [1 - val, val]
            allocated = allocate(members[rest], shares, rng)
            parts[rest] = spread(allocated, has[rest], shares, [[0]])
    return parts[group_of]


def _check_folds(
    parts: np.ndarray,
    has: np.ndarray,
    views: Sequence[Sequence[int]],
    data: Dataset | SourceImages,
) -> None:
    """Refuses folds of which one is empty, or would be trained without a class."""
    if len(np.unique(parts)) < len(views):
        raise InputError(
            f"{data.source}: {len(parts):,} images or groups (such as patients) are "
            f"shared out, too few for {len(views)} folds. Set folds to a lower number."
        )
    for label, name in enumerate(data.class_names):
        holders = set(parts[has[:, label]].tolist())
        if any(holders.isdisjoint(view) for view in views):
            raise InputError(
                f"{data.source}: {name} is in {has[:, label].sum()} of the images or "
                f"groups that are shared out, too few for each of {len(views)} folds "
                "to have one to train on, beside a fold for val and one for test. "
                "Leave the class out, or set folds to 0."
            )


def _check_trained(
    labels: np.ndarray,
    parts: np.ndarray,
    data: Dataset | SourceImages,
    splitting: Splitting,
) -> None:
    """Refuses a class of the source whose images are all kept out of training."""
    lacking = lacking_classes(labels[parts == 0], data.task, data.class_names)
    present = set(data.class_names) - set(
        lacking_classes(labels, data.task, data.class_names)
    )
    if names := [name for name in lacking if name in present]:
        kept = ", which keep_test keeps" if splitting.keep_test else ""
        raise InputError(
            f"{data.source}: no image of {', '.join(names)} is left for train; all "
            f"are in val or test{kept}. Leave the class out, or split otherwise."
        )


def _build(data: Dataset | SourceImages, splits: dict[str, Split]) -> Dataset:
    return Dataset(
        name=data.name,
        source=data.source,
        task=data.task,
        class_names=data.class_names,
        train=splits["train"],
        val=splits["val"],
        test=splits["test"],
        image_size=max(splits["train"].images.shape[1:3]),
        skipped=data.skipped,
        notes=data.notes,
    )


def _keep(
    splits: Mapping[str, Split], groups: tuple[str, ...] | None
) -> dict[str, Split]:
    """Returns the splits as they are, with groups."""
    if groups is None:
        return dict(splits)
    kept, start = {}, 0
    for name, split in splits.items():
        kept[name] = replace(split, groups=groups[start : start + len(split)])
        start += len(split)
    return kept


def join_groups(splits: Sequence[Split]) -> tuple[str, ...] | None:
    """Return the groups of all images; None unless all splits have some."""
    if any(split.groups is None for split in splits):
        return None
    return tuple(group for split in splits for group in split.groups or ())


def gather(
    splits: Sequence[Split], rows: np.ndarray, groups: tuple[str, ...] | None
) -> Split:
    """Take images from several splits, without a copy of all of them.

    Args:
        splits: whose images have one shape.
        rows: int (n,), rising, counted over all splits.
        groups: of the images of all splits.
    """
    taken, start = [], 0
    for split in splits:
        inside = rows[(rows >= start) & (rows < start + len(split))] - start
        taken.append(split.take(inside))
        start += len(split)
    return Split(
        images=join_images([split.images for split in taken]),
        labels=np.concatenate([split.labels for split in taken]),
        ids=tuple(identity for split in taken for identity in split.ids),
        groups=None if groups is None else tuple(groups[i] for i in rows),
        columns={
            name: tuple(text for split in taken for text in split.columns[name])
            for name in splits[0].columns
        },
    )
