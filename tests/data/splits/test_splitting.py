"""Splits made anew: whole groups, every image once, shares, classes, folds."""

import re
from dataclasses import replace

import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from jaxmed.data.dataset import MISSING, SPLITS, Dataset, SourceImages, Split
from jaxmed.data.splits.grouping import find_groups, torn_groups
from jaxmed.data.splits.splitting import Splitting, make_split
from jaxmed.errors import InputError

PATIENT = r"person(\d+)_|IM-(\d+)-"
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}


def draw_cohort(seed, *, patients=150, classes=3, task="multiclass"):
    """Images of patients with one to eight images each, of a class that they share."""
    rng = np.random.default_rng(seed)
    of_patient = rng.choice(classes, patients, p=rng.dirichlet([2] * classes))
    patient = np.repeat(np.arange(patients), rng.integers(1, 9, patients))
    patient = rng.permutation(patient)
    labels = of_patient[patient].astype(np.int32)
    if task == "multilabel":
        labels = np.eye(classes, dtype=np.int32)[labels]
        labels |= rng.integers(0, 6, labels.shape) == 0
    images = rng.integers(0, 256, (len(patient), 1, 1, 1), np.uint8)
    ids = tuple(f"{i}-person{who}_x.png" for i, who in enumerate(patient))
    return SourceImages(
        name="cohort",
        source="test",
        task=task,
        class_names=tuple("abcdefgh"[:classes]),
        splits={"": Split(images=images, labels=labels, ids=ids)},
    )


def parts_of(data):
    return {name: getattr(data, name) for name in SPLITS}


def ids_of(data):
    return {name: split.ids for name, split in parts_of(data).items()}


def patient_split(**settings):
    return Splitting(split="patient", group_pattern=r"person(\d+)_", **settings)


def class_shares(data):
    """Returns by split, relative to all images, the share of each class and of all."""
    columns = {
        name: np.column_stack(
            [
                part.labels
                if part.labels.ndim == 2
                else np.eye(len(data.class_names))[part.labels],
                np.ones(len(part)),
            ]
        ).sum(axis=0)
        for name, part in parts_of(data).items()
    }
    total = sum(columns.values())
    return {name: column / np.maximum(total, 1) for name, column in columns.items()}


@pytest.mark.parametrize("task", ["multiclass", "ordinal", "binary", "multilabel"])
@pytest.mark.parametrize("seed", range(5))
def test_a_split_by_patient_keeps_patients_whole_images_once_and_shares(seed, task):
    classes = 2 if task == "binary" else 3
    cohort = draw_cohort(seed, task=task, classes=classes)
    data = make_split(cohort, patient_split(split_seed=seed))
    assert data.task == task
    assert sorted(sum(ids_of(data).values(), ())) == sorted(cohort.splits[""].ids)
    groups = {name: part.groups for name, part in parts_of(data).items()}
    assert not torn_groups(groups)
    whose = dict(
        zip(cohort.splits[""].ids, cohort.splits[""].images.ravel(), strict=True)
    )
    label = dict(
        zip(cohort.splits[""].ids, cohort.splits[""].labels.tolist(), strict=True)
    )
    for part in parts_of(data).values():
        assert part.images.ravel().tolist() == [whose[i] for i in part.ids]
        assert part.labels.tolist() == [label[i] for i in part.ids]
        assert part.groups == find_groups(part.ids, r"person(\d+)_")
    for name, shares in class_shares(data).items():
        # A patient's eight images are a twelfth of a class of a hundred.
        assert abs(shares[-1] - SHARES[name]) < 0.02
        assert np.abs(shares - SHARES[name]).max() < 0.08


@pytest.mark.parametrize("seed", range(5))
def test_what_is_known_of_a_label_is_shared_out_too(seed):
    """Of the first label 40 images of more than 600 are known."""
    cohort = draw_cohort(seed, task="multilabel")
    rng = np.random.default_rng(seed)
    cohort.splits[""].labels[:, 0] = MISSING
    few = rng.permutation(len(cohort.splits[""]))[:40]
    cohort.splits[""].labels[few, 0] = np.arange(40) % 4 == 0
    data = make_split(cohort, Splitting(split="stratified", split_seed=seed))
    for name, part in parts_of(data).items():
        known = part.labels[:, 0] != MISSING
        assert abs(known.sum() - 40 * SHARES[name]) <= 1.5
        positive = (part.labels[:, 0] == 1).sum()
        assert abs(positive - 10 * SHARES[name]) <= 1.5


@pytest.mark.parametrize("seed", range(5))
def test_a_stratified_split_gives_each_class_its_share_to_an_image(seed):
    cohort = draw_cohort(seed, classes=4)
    data = make_split(cohort, Splitting(split="stratified", split_seed=seed))
    counts = np.bincount(cohort.splits[""].labels, minlength=4)
    for name, part in parts_of(data).items():
        exact = counts * SHARES[name]
        assert np.abs(np.bincount(part.labels, minlength=4) - exact).max() <= 1.5
    assert sorted(sum(ids_of(data).values(), ())) == sorted(cohort.splits[""].ids)


def test_the_seed_alone_decides():
    cohort = draw_cohort(0)
    for kind in (patient_split, lambda **s: Splitting(split="stratified", **s)):
        first = make_split(cohort, kind(split_seed=1))
        assert make_split(cohort, kind(split_seed=1)).fingerprint == first.fingerprint
        others = [make_split(cohort, kind(split_seed=seed)) for seed in (2, 3)]
        prints = {first.fingerprint, *(other.fingerprint for other in others)}
        assert len(prints) == 3


@pytest.mark.parametrize("kind", ["patient", "stratified"])
def test_each_image_is_in_test_of_one_fold_and_in_val_of_another(kind):
    cohort = draw_cohort(1)
    pattern = r"person(\d+)_" if kind == "patient" else ""
    folds = [
        ids_of(
            make_split(
                cohort, Splitting(split=kind, group_pattern=pattern, folds=5, fold=fold)
            )
        )
        for fold in range(5)
    ]
    everything = sorted(cohort.splits[""].ids)
    for name in ("val", "test"):
        assert sorted(i for fold in folds for i in fold[name]) == everything
    for number, fold in enumerate(folds):
        assert sorted(sum(fold.values(), ())) == everything
        assert fold["val"] == folds[(number + 1) % 5]["test"]


def test_val_is_cut_from_what_is_not_the_test_fold():
    cohort = draw_cohort(0)
    cut = {"folds": 5, "fold_val": "cut", "val_share": 0.15}
    for fold in (0, 3):
        data = make_split(cohort, patient_split(**cut, fold=fold))
        following = make_split(cohort, patient_split(folds=5, fold=fold))
        assert data.test.ids == following.test.ids
        rest = len(data.train) + len(data.val)
        assert len(data.val) / rest == pytest.approx(0.15, abs=0.03)
        groups = {name: part.groups for name, part in parts_of(data).items()}
        assert not torn_groups(groups)
        again = make_split(cohort, patient_split(**cut, fold=fold))
        assert ids_of(again) == ids_of(data)


def test_auto_keeps_patients_together_where_they_are_known():
    cohort = draw_cohort(0)
    known = make_split(
        cohort, Splitting(split="auto", group_pattern=r"person(\d+)_", folds=5)
    )
    assert ids_of(known) == ids_of(make_split(cohort, patient_split(folds=5)))
    unknown = make_split(cohort, Splitting(split="auto", folds=5))
    stratified = make_split(cohort, Splitting(split="stratified", folds=5))
    assert ids_of(unknown) == ids_of(stratified)


def test_fewer_patients_than_folds_are_refused():
    cohort = draw_cohort(0, patients=4, classes=2)
    with pytest.raises(InputError, match=r"4 images or groups .* too few for 5 folds"):
        make_split(cohort, patient_split(folds=5))


def test_a_repeat_divides_into_other_folds_without_torn_patients():
    cohort = draw_cohort(2)
    made = [
        make_split(cohort, patient_split(folds=4, fold=1, repeat=repeat))
        for repeat in range(3)
    ]
    assert len({data.fingerprint for data in made}) == 3
    for data in made:
        groups = {name: part.groups for name, part in parts_of(data).items()}
        assert not torn_groups(groups)


def spread(folds, labels):
    """Returns the largest difference between two folds, of a class's share in it."""
    counts = np.stack([np.bincount(labels[fold], minlength=3) for fold in folds])
    return np.ptp(counts / counts.sum(axis=0), axis=0).max()


@pytest.mark.parametrize("seed", range(5))
def test_folds_are_as_balanced_as_scikit_learns(seed):
    cohort = draw_cohort(seed)
    labels, ids = cohort.splits[""].labels, cohort.splits[""].ids
    patients = find_groups(ids, r"person(\d+)_")
    rows = {identity: i for i, identity in enumerate(ids)}
    for settings, theirs, groups in (
        (
            {"split": "patient", "group_pattern": r"person(\d+)_"},
            StratifiedGroupKFold(5, shuffle=True, random_state=seed),
            patients,
        ),
        (
            {"split": "stratified"},
            StratifiedKFold(5, shuffle=True, random_state=seed),
            None,
        ),
    ):
        made = [
            make_split(cohort, Splitting(**settings, folds=5, fold=fold))
            for fold in range(5)
        ]
        ours = [[rows[i] for i in data.test.ids] for data in made]
        sklearn = [test for _, test in theirs.split(labels, labels, groups)]
        # One image more in one fold than in another, of the smallest class.
        one = 1 / np.bincount(labels).min()
        assert spread(ours, labels) <= spread(sklearn, labels) + one + 1e-9


def test_the_folds_of_a_given_split_are_of_all_its_images():
    data = make_split(draw_cohort(3), Splitting(split="stratified"))
    again = make_split(data, patient_split(test_share=0.3))
    assert sorted(sum(ids_of(again).values(), ())) == sorted(
        sum(ids_of(data).values(), ())
    )
    old = dict(
        zip(
            sum(ids_of(data).values(), ()),
            np.concatenate([part.images.ravel() for part in parts_of(data).values()]),
            strict=True,
        )
    )
    for part in parts_of(again).values():
        assert part.images.ravel().tolist() == [old[i] for i in part.ids]


def test_the_groups_of_the_source_are_used():
    cohort = draw_cohort(4)
    groups = find_groups(cohort.splits[""].ids, r"person(\d+)_")
    named = replace(cohort, splits={"": replace(cohort.splits[""], groups=groups)})
    expected = make_split(cohort, patient_split())
    data = make_split(named, Splitting(split="patient"))
    assert data.fingerprint == expected.fingerprint
    assert data.train.groups == expected.train.groups


def test_a_given_split_stays_and_learns_its_groups():
    data = make_split(draw_cohort(5), Splitting(split="stratified"))
    assert make_split(data, Splitting()).fingerprint == data.fingerprint
    named = make_split(data, Splitting(group_pattern=r"person(\d+)_"))
    assert named.fingerprint == data.fingerprint
    for part in parts_of(named).values():
        assert part.groups == find_groups(part.ids, r"person(\d+)_")


def of_images(count):
    cohort = draw_cohort(0)
    rows = np.arange(count)
    return replace(cohort, splits={"": cohort.splits[""].take(rows)})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"split": "patients"}, "Did you mean 'patient'?"),
        ({"split": "stratified", "folds": 2}, "folds must be 0 or at least 3"),
        ({"split": "stratified", "folds": 5, "fold": 5}, "fold must be from 0 to 4"),
        ({"split": "stratified", "folds": 5, "val_share": 0.3}, "have no effect"),
        ({"split": "stratified", "fold": 1}, "are of folds, and folds is 0"),
        ({"split": "stratified", "val_share": 0.0}, "above 0 and below 1 together"),
        ({"split": "stratified", "test_share": 0.9}, "above 0 and below 1 together"),
        ({"split": "stratified", "split_seed": -1}, "must be at least 0, got -1"),
        ({"folds": 5}, "folds is for a split that is made anew, and split is 'given'"),
        ({"split": "file:a.csv", "split_seed": 3}, "split_seed is for a split that"),
        ({}, "has no train, val and test, so the split cannot be given"),
        ({"split": "patient"}, "does not say which images are of one patient"),
        ({"split": "patient", "group_pattern": "(p"}, "is not a regular expression"),
        ({"split": "patient", "group_pattern": "person"}, "must have parentheses"),
        ({"split": "patient", "group_pattern": "IM-(.)"}, "in none of the 4 ids; the"),
        ({"split": "patient", "group_pattern": "(p)"}, "4 images in 1 groups; change"),
    ],
)
def test_wrong_settings_are_explained(settings, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)):
        make_split(of_images(4), Splitting(**settings))


def test_splits_of_different_sizes_cannot_be_joined():
    data = make_split(draw_cohort(0), Splitting(split="stratified"))
    large = replace(data.val, images=np.repeat(data.val.images, 2, axis=1))
    with pytest.raises(InputError, match="train, val and test differ in size"):
        make_split(replace(data, val=large), Splitting(split="stratified"))


@pytest.fixture(scope="module")
def x_rays(test_data):
    """The chest X-rays' names and classes, with a pixel for each image."""
    root = test_data / "chest_xray"
    splits = {}
    for name in SPLITS:
        files = sorted(root.glob(f"{name}/*/*.jpeg"))
        labels = [int(path.parent.name == "PNEUMONIA") for path in files]
        splits[name] = Split(
            images=np.zeros((len(files), 1, 1, 1), np.uint8),
            labels=np.array(labels, np.int32),
            ids=tuple(path.relative_to(root).as_posix() for path in files),
        )
    return Dataset(
        name="chest_xray",
        source="folder:chest_xray",
        task="binary",
        class_names=("NORMAL", "PNEUMONIA"),
        image_size=1,
        **splits,
    )


def test_patients_of_real_x_rays_are_torn_by_a_random_split_only(x_rays):
    found = {}
    for kind in ("given", "patient", "stratified"):
        data = make_split(x_rays, Splitting(split=kind, group_pattern=PATIENT))
        groups = {name: part.groups for name, part in parts_of(data).items()}
        found[kind] = len(torn_groups(groups))
        assert sum(map(len, groups.values())) == 5216
    assert found["given"] == found["patient"] == 0
    assert found["stratified"] > 300


def test_real_x_rays_in_shares_and_folds(x_rays):
    pattern = {"split": "patient", "group_pattern": PATIENT}
    for name, shares in class_shares(make_split(x_rays, Splitting(**pattern))).items():
        assert np.abs(shares - SHARES[name]).max() < 0.002
    tests = []
    for fold in range(5):
        data = make_split(x_rays, Splitting(**pattern, folds=5, fold=fold))
        assert np.abs(class_shares(data)["test"] - 0.2).max() < 0.002
        tests += data.test.ids
    assert len(set(tests)) == len(tests) == 5216


def lengths(data):
    return [len(part) for part in parts_of(data).values()]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
@pytest.mark.parametrize("kind", ["patient", "stratified"])
def test_the_given_test_split_can_be_kept(kind, task):
    given = make_split(draw_cohort(6, task=task), patient_split())
    pattern = r"person(\d+)_" if kind == "patient" else ""
    splitting = Splitting(
        split=kind, group_pattern=pattern, keep_test=True, val_share=0.25
    )
    data = make_split(given, splitting)
    assert data.test.ids == given.test.ids
    np.testing.assert_array_equal(data.test.images, given.test.images)
    free = len(given.train) + len(given.val)
    assert abs(len(data.val) - 0.25 * free) <= 4
    assert sorted(data.train.ids + data.val.ids) == sorted(
        given.train.ids + given.val.ids
    )
    if kind == "patient":
        groups = {name: part.groups for name, part in parts_of(data).items()}
        assert not torn_groups(groups)
    again = make_split(given, replace(splitting, split_seed=1))
    assert again.test.ids == given.test.ids
    assert again.val.ids != data.val.ids


def test_val_is_cut_out_of_train_where_the_source_has_none():
    cohort = draw_cohort(7)
    count = len(cohort.splits[""])
    origin = tuple(("train", "test")[i % 4 == 0] for i in range(count))
    named = with_origin(cohort, origin)
    data = make_split(named, Splitting(split="stratified", keep_test=True))
    assert data.test.ids == cohort.splits[""].ids[::4]
    expected = r"has train and test, and no val\. Set split .* keep_test to true, which"
    with pytest.raises(InputError, match=expected):
        make_split(named, Splitting())
    # Without keep_test all images are shared out.
    anew = make_split(named, Splitting(split="stratified"))
    assert abs(len(anew.test) - 0.2 * count) <= 2


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"keep_test": True}, "keep_test is for a split that is made anew"),
        (
            {"split": "stratified", "keep_test": True},
            "no test split that could be kept",
        ),
        (
            {"split": "stratified", "keep_test": True, "folds": 5},
            "test_share and folds have no effect",
        ),
        (
            {"split": "stratified", "keep_test": True, "test_share": 0.3},
            "test_share and folds have no effect",
        ),
    ],
)
def test_a_test_split_that_cannot_be_kept_is_explained(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        make_split(draw_cohort(0), Splitting(**settings))


def of_labels(labels, task="multiclass", groups=None):
    names = tuple(f"{name}.png" for name in range(len(labels)))
    labels = np.asarray(labels, np.int32)
    classes = labels.shape[1] if labels.ndim == 2 else labels.max() + 1
    images = Split(
        images=np.zeros((len(labels), 1, 1, 1), np.uint8),
        labels=labels,
        ids=names,
        groups=groups,
    )
    return SourceImages(
        name="few",
        source="few",
        task=task,
        class_names=tuple("abcdef"[:classes]),
        splits={"": images},
    )


def with_origin(cohort, origin):
    """Returns a source that has its images, from the first to the last, in splits."""
    images = cohort.splits[""]
    rows = {
        name: np.flatnonzero(np.array(origin) == name) for name in ("train", "test")
    }
    splits = {name: images.take(chosen) for name, chosen in rows.items()}
    return replace(cohort, splits=splits)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("rare", [1, 2, 3, 4, 7])
def test_a_rare_class_is_in_train_and_then_in_every_split(rare, seed):
    labels = np.random.default_rng(seed).permutation([0] * 40 + [1] * 60 + [2] * rare)
    data = make_split(of_labels(labels), Splitting(split="stratified", split_seed=seed))
    holders = {n: (part.labels == 2).sum() for n, part in parts_of(data).items()}
    assert holders["train"] >= 1
    assert sum(count > 0 for count in holders.values()) == min(rare, 3)
    sizes = lengths(data)
    np.testing.assert_allclose(
        sizes, [0.7, 0.1, 0.2] * np.array([sum(sizes)] * 3), atol=2.5
    )


@pytest.mark.parametrize("seed", range(5))
def test_rare_positives_of_several_labels_are_in_every_split(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.random((200, 4)) < 0.4).astype(np.int32)
    labels[:, 2], labels[:, 3] = 0, 1
    few = rng.permutation(200)
    labels[few[:3], 2], labels[few[3:6], 3] = 1, 0
    data = make_split(
        of_labels(labels, "multilabel"), Splitting(split="stratified", split_seed=seed)
    )
    for part in parts_of(data).values():
        # Three positives of one, three negatives of the other.
        assert (part.labels[:, 2] == 1).sum() == 1
        assert (part.labels[:, 3] == 0).sum() == 1


@pytest.mark.parametrize(("folds", "needed"), [(3, 3), (5, 2), (10, 2)])
def test_folds_never_leave_a_class_out_of_training(folds, needed):
    for rare in (1, 2, 3, 4):
        labels = [0] * 30 + [1] * 31 + [2] * rare
        for fold in range(folds):
            splitting = Splitting(split="stratified", folds=folds, fold=fold)
            if rare < needed:
                # Of every fold, so that no fold of five is trained in vain.
                with pytest.raises(InputError, match=rf"c is in {rare} of the images"):
                    make_split(of_labels(labels), splitting)
                continue
            data = make_split(of_labels(labels), splitting)
            assert set(data.train.labels) == {0, 1, 2}


def test_patients_with_a_rare_class_are_in_every_split():
    labels = [0] * 60 + [1] * 60 + [2] * 6
    groups = tuple(f"p{i // 2}" for i in range(len(labels)))
    for seed in range(5):
        splitting = Splitting(split="patient", split_seed=seed)
        data = make_split(of_labels(labels, groups=groups), splitting)
        for part in parts_of(data).values():
            assert (part.labels == 2).sum() == 2
        assert not torn_groups({n: p.groups for n, p in parts_of(data).items()})


def test_a_class_that_test_alone_has_is_explained():
    cohort = of_labels([0, 1] * 20 + [2])
    named = with_origin(cohort, ("train",) * 36 + ("test",) * 5)
    with pytest.raises(
        InputError, match=r"no image of c is left for train; .*keep_test"
    ):
        make_split(named, Splitting(split="stratified", keep_test=True))
