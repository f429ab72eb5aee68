"""`table:PATH` on good tables, and a sentence for every way one can be bad."""

import csv
import sys
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.dataset import MISSING
from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

NAMES = ["b.png", "a.png", "deep/c.png", "d.png", "e.png", "f.png"]
COHORT = {
    "path": NAMES,
    "label": ["well", "ill", "well", "ill", "well", "ill"],
    "patient": ["7", "7", "p3", "4", "5", "6"],
    "split": ["train", "train", "train", "val", "valid", "Test"],
    "site": ["x"] * 6,
}


@pytest.fixture
def save(tmp_path):
    """Writes a table beside six images, and gives its path."""
    for i, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)

    def save(columns, name="cohort.csv", *, encoding="utf-8", delimiter=","):
        path = tmp_path / name
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return path

    return save


def load(path, query="", **options):
    return load_dataset(f"table:{path}{query}", **options)


def test_images_labels_ids_and_patients(save):
    path = save(COHORT)
    data = load(path)
    assert (data.name, data.source) == ("cohort", f"table:{path}")
    assert (data.task, data.class_names) == ("binary", ("ill", "well"))
    assert data.train.ids == ("b.png", "a.png", "deep/c.png")
    assert data.val.ids == ("d.png", "e.png")
    assert data.train.labels.tolist() == [1, 0, 1]
    assert data.train.labels.dtype == np.int32
    assert data.train.groups == ("7", "7", "p3")
    assert data.test.groups == ("6",)
    assert data.image_size == 8
    for split in (data.train, data.val, data.test):
        for image, name in zip(split.images, split.ids, strict=True):
            pixels = np.asarray(Image.open(path.parent / name))
            np.testing.assert_array_equal(image[..., 0], pixels)


def test_columns_and_folder_can_be_named_in_the_source(save, tmp_path):
    names = {"path": "Image Index", "label": "a&b", "patient": "pid", "split": "fold"}
    renamed = {names.get(name, name): cells for name, cells in COHORT.items()}
    (tmp_path / "tables").mkdir()
    path = save(renamed, "tables/renamed.csv")
    query = "?path=Image Index&label=a%26b&patient=pid&split=fold&root=.."
    assert load(path, query).fingerprint == load(save(COHORT)).fingerprint
    absolute = query.replace("..", str(tmp_path))
    assert load(path, absolute).train.groups == ("7", "7", "p3")


def test_image_size_bounds_what_is_held(save):
    data = load(save(COHORT), image_size=4)
    assert data.train.images.shape == (3, 4, 4, 1)


def test_without_a_column_of_patients_there_are_no_groups(save):
    table = {name: cells for name, cells in COHORT.items() if name != "patient"}
    assert load(save(table)).train.groups is None


def test_without_a_column_of_splits_a_split_by_patient_is_made(save):
    table = {name: cells for name, cells in COHORT.items() if name != "split"}
    with pytest.raises(InputError, match="split"):
        load(save(table))
    data = load(save(table), splitting=Splitting(split="patient", val_share=0.2))
    assert sorted(data.train.ids + data.val.ids + data.test.ids) == sorted(NAMES)
    patient = dict(zip(NAMES, COHORT["patient"], strict=True))
    patients = []
    for split in (data.train, data.val, data.test):
        assert split.groups == tuple(patient[name] for name in split.ids)
        patients += set(split.groups)
    assert sorted(patients) == sorted(set(COHORT["patient"]))


@pytest.mark.parametrize(
    ("cells", "classes", "labels"),
    [
        (["0", "1", "0", "1", "0", "1"], ("0", "1"), [0, 1, 0]),
        (["0.0", "1.0", "0.0", "1", "0", "1"], ("0", "1"), [0, 1, 0]),
        (["10", "9", "2", "9", "2", "10"], ("2", "9", "10"), [2, 1, 0]),
        (
            ["False", "True", "True", "True", "True", "True"],
            ("False", "True"),
            [0, 1, 1],
        ),
    ],
)
def test_whole_numbers_are_classes_in_their_order(save, cells, classes, labels):
    data = load(save(COHORT | {"label": cells}))
    assert data.class_names == classes
    assert data.train.labels.tolist() == labels


FLAGS = {
    "path": NAMES,
    "split": COHORT["split"],
    "label_Mass": ["0", "1", "0.0", "1.0", "False", "true"],
    "label_Nodule": ["1", "1", "0", "0", "0", "1"],
}


@pytest.mark.parametrize(
    ("query", "classes"),
    [
        ("", ("Mass", "Nodule")),
        ("?label=label_Nodule,label_Mass", ("Nodule", "Mass")),
    ],
)
def test_several_columns_make_a_multilabel_task(save, query, classes):
    data = load(save(FLAGS), query)
    assert (data.task, data.class_names) == ("multilabel", classes)
    expected = np.array([[0, 1], [1, 1], [0, 0]], np.int32)
    found = data.train.labels
    np.testing.assert_array_equal(found, expected[:, :: -1 if query else 1])
    assert found.dtype == np.int32


def test_columns_of_a_multilabel_task_keep_names_without_the_prefix(save):
    table = {name.removeprefix("label_"): cells for name, cells in FLAGS.items()}
    data = load(save(table), "?label=Mass,Nodule")
    assert data.class_names == ("Mass", "Nodule")


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8-sig", ","), ("utf-8-sig", ";"), ("utf-16", "\t"), ("utf-8", "\t")],
)
def test_what_spreadsheets_write_is_read(save, encoding, delimiter):
    table = COHORT | {"label": ["здоров", "болен"] * 3}
    path = save(table, encoding=encoding, delimiter=delimiter)
    with path.open("a", encoding=encoding.removesuffix("-sig")) as file:
        file.write(delimiter * 4 + "\n\n")
    assert load(path).fingerprint == load(save(table, "plain.csv")).fingerprint


def test_parquet_is_read_as_csv_is(save, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads Parquet")
    from pyarrow import parquet

    for name, table in (("cohort", COHORT), ("flags", FLAGS)):
        path = tmp_path / f"{name}.parquet"
        typed = dict(table)
        if name == "flags":
            typed["label_Mass"] = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
            typed["label_Nodule"] = [True, True, False, False, False, True]
        parquet.write_table(pyarrow.table(typed), path)
        assert load(path).fingerprint == load(save(table)).fingerprint
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"flags.parquet cannot be read as Parquet: "):
        load(path)
    typed["label_Mass"][:3] = [None, float("nan"), 1.0]
    parquet.write_table(pyarrow.table(typed), path)
    assert load(path).train.labels.tolist() == [[-1, 1], [-1, 1], [1, 0]]


def test_parquet_without_pyarrow_says_what_to_install(save, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = save(COHORT, "cohort.parquet")
    with pytest.raises(InputError, match=r"pip install 'jaxmed\[parquet\]', or save"):
        load(path)


def change(column, row, cell):
    def edit(table):
        cells = list(table[column])
        cells[row] = cell
        return table | {column: cells}

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (
            change("path", 1, "g.png"),
            r"1 of 6 rows .*: line 3 \(there is no file g",
        ),
        (change("path", 1, "deep"), r"line 3 \(there is no file deep\)"),
        (change("path", 1, "x" * 300), r"line 3 \(there is no file xxx"),
        (change("path", 1, ""), r"line 3 \(no path\)"),
        (change("path", 1, "./b.png"), r"3 \(b.png has another label in line 2\)"),
        (change("path", 1, "deep/../../a.png"), r"leads out of the folder of the im"),
        (change("path", 1, "../secret.png"), r"3 \(../secret.png leads out of"),
        (change("path", 1, r"..\secret.png"), "leads out of the folder"),
        (change("path", 1, "/etc/passwd"), "/etc/passwd leads out of the folder"),
        (change("path", 1, r"C:\scan.png"), "leads out of the folder"),
        (change("split", 5, "holdout"), r"'holdout', and not one of train, val, test"),
        (change("patient", 3, "NaN"), r"line 5 \(no patient\)"),
        (change("label", 2, ""), r"line 4 \(no label\)"),
        (change("label", 2, "1"), "mix numbers, such as 1, and texts, such as 'ill'"),
        (change("split", 5, "val"), r"has train and val, and no test\. Set split to"),
        (change("label", 5, "odd"), "the split 'train' has no odd"),
        (lambda t: t | {"label": ["ill"] * 6}, "needs at least 2 classes, got 1"),
        (
            lambda t: t | {"label": ["0", "0.5", "1", "-1", "nan", "2.5"]},
            r"4 of 6 rows cannot be used: line 3 \(label is 0.5, no whole number from "
            r"0 up\), line 5 \(label is -1, .*, line 6 \(no label\), line 7 \(label is",
        ),
        (
            lambda t: t | {"label_x": ["0"] * 6},
            r"a column 'label' and columns label_x; say which .*\?label=label'",
        ),
        (
            lambda t: {k.replace("path", "paths"): v for k, v in t.items()},
            r"Unknown column of .*cohort.csv 'path'\. Did you mean 'paths'\? .*\?path=",
        ),
        (
            lambda t: {k: [] for k in t},
            "cohort.csv has no rows; it needs one for each image",
        ),
    ],
)
def test_bad_rows_and_columns_are_explained(save, edit, sentence):
    with pytest.raises(InputError, match=sentence):
        load(save(edit(COHORT)))


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("0.5", r"line 3 \(label_Nodule is 0.5, and not 0 or 1, nor"),
        ("2", "label_Nodule is 2, and not"),
        ("yes", "label_Nodule is yes, and not"),
        ("-2", "label_Nodule is -2, and not 0 or 1, nor -1 where it is uncertain"),
    ],
)
def test_bad_flags_are_explained(save, cell, sentence):
    with pytest.raises(InputError, match=sentence):
        load(save(change("label_Nodule", 1, cell)(FLAGS)))


@pytest.mark.parametrize("cell", ["", "NaN", "n/a", "NULL"])
def test_a_flag_without_a_value_is_a_label_that_is_not_known(save, cell):
    data = load(save(change("label_Nodule", 1, cell)(FLAGS)))
    assert data.train.labels.tolist() == [[0, 1], [1, MISSING], [0, 0]]
    assert data.train.labels.dtype == np.int32


def test_a_label_of_which_training_knows_nothing_is_refused(save):
    table = FLAGS | {"label_Nodule": ["", "", "", "0", "0", "1"]}
    expected = "no row of the split 'train' has a value of 'Nodule', so it cannot"
    with pytest.raises(InputError, match=expected):
        load(save(table))


def test_a_table_without_splits_has_some_of_every_class_and_label_too(save):
    splitting = Splitting(split="stratified", val_share=0.2)
    table = {name: cells for name, cells in FLAGS.items() if name != "split"}
    with pytest.raises(InputError, match="no row of the table has a value of 'Mass'"):
        load(save(table | {"label_Mass": [""] * 6}), splitting=splitting)
    table = {name: cells for name, cells in COHORT.items() if name != "split"}
    with pytest.raises(InputError, match="the table has no dying"):
        load(save(table), "?classes=well,ill,dying", splitting=splitting)


def test_only_columns_that_are_named_are_carried_along(save):
    table = COHORT | {"sex": ["f", "", "m", "NaN", "f", "m"], "a,b": list("uvwxyz")}
    data = load(save(table), "?columns=sex,a%2Cb,site")
    assert data.train.columns == {
        "sex": ("f", "", "m"), "a,b": ("u", "v", "w"), "site": ("x",) * 3,
    }  # fmt: skip
    assert data.val.columns["sex"] == ("", "f")
    plain = load(save(table))
    assert plain.train.columns == {}
    assert plain.fingerprint == data.fingerprint


def test_columns_follow_their_images_through_a_new_split(save):
    table = {name: cells for name, cells in COHORT.items() if name != "split"}
    table["own"] = [name.upper() for name in NAMES]
    splitting = Splitting(split="stratified", val_share=0.2, test_share=0.2)
    data = load(save(table), "?columns=own", splitting=splitting, train_images=2)
    for split in (data.train, data.val, data.test):
        assert split.columns == {"own": tuple(name.upper() for name in split.ids)}


GRADES = COHORT | {"grade": ["0", "2.0", "1", "1", "2", "0"]}


def test_grades_make_an_ordinal_task(save):
    data = load(save(GRADES), "?label=grade&task=ordinal")
    assert (data.task, data.class_names) == ("ordinal", ("0", "1", "2"))
    assert data.train.labels.tolist() == [0, 2, 1]
    named = load(save(GRADES), "?label=grade&task=ordinal&classes=none,mild,severe")
    assert (named.task, named.class_names) == ("ordinal", ("none", "mild", "severe"))
    assert named.train.labels.tolist() == [0, 2, 1]
    assert load(save(GRADES), "?label=grade").task == "multiclass"


@pytest.mark.parametrize(
    ("cells", "classes", "train"),
    [
        (["mild", "severe", "none"] * 2, "none,mild,severe", [1, 2, 0]),
        (["4A", "2", "3"] * 2, "2,3,4A", [2, 0, 1]),
        (["5", "1.0", "2"] * 2, "1,2,5", [2, 0, 1]),
        (["a, b", "c", "c"] * 2, "c,a%2C b", [1, 0, 0]),
    ],
)
def test_the_order_of_classes_can_be_said(save, cells, classes, train):
    path = save(COHORT | {"label": cells})
    data = load(path, f"?classes={classes}&task=ordinal")
    assert data.class_names == tuple(c.replace("%2C", ",") for c in classes.split(","))
    assert (data.task, data.train.labels.tolist()) == ("ordinal", train)
    unordered = load(path, f"?classes={classes}")
    assert unordered.task == ("binary" if "%" in classes else "multiclass")
    assert unordered.train.labels.tolist() == train


@pytest.mark.parametrize(
    ("cells", "query", "sentence"),
    [
        (
            ["0", "1", "3"] * 2,
            "task=ordinal",
            r"column 'label': the grades are 0, 1, 3, and not 0, 1, 2, \.\.\. without",
        ),
        (["1", "2", "3"] * 2, "task=ordinal", "are 1, 2, 3, and not 0, 1, 2"),
        (["low", "high"] * 3, "task=ordinal", "high, low, .*'classes=none,mild,sev"),
        (["low", "hihg"] * 3, "classes=low,high", "3 .*label is hihg, and not in cl"),
        (["0", "2"] * 3, "classes=low,high", r"3 \(label is 2, and not in classes\)"),
        (["0", "0.5"] * 3, "classes=low,high", "label is 0.5, and not in classes"),
        (["low", ""] * 3, "classes=low,high", r"3 \(no label\)"),
        (["low", "high"] * 3, "classes=low,mid,high", "'train' has no mid"),
        (["low", "high"] * 3, "classes=low", "label is high, and not in classes"),
        (["low", "high"] * 3, "classes=low,high,low", "names 'low' twice in classes"),
        (["0", "1"] * 3, "task=grades", "Unknown task in .* 'grades'"),
        (["0", "1"] * 3, "task=multilabel", "no cell of 'label' holds several labels"),
        (["a", "b"] * 3, "positive=c", "Unknown class of .* 'c'"),
        (["a", "b", "c"] * 2, "positive=c", "positive is of a task of two classes"),
        (["a", "b"] * 3, "sep=|&label=label,site", "sep is of one column of labels"),
        (["2", "3", "4A"] * 2, "", "or say all classes in their order, as in 'classes"),
        (["0", "1"] * 3, "blank=error", "Unknown blank in .* 'error'"),
        (["0", "1"] * 3, "split=split&test=a.csv", "Say one of them"),
        (["0", "1"] * 3, "test=a.csv", "The table .*a.csv does not exist"),
        (["0", "1"] * 3, "test=a.txt", "The list of images .*a.txt cannot be read"),
        (["0", "1"] * 3, "columns=site,sight", "'sight'. Did you mean 'site'"),
        (["0", "1"] * 3, "columns=site,site", "names 'site' twice in columns"),
        (["0", "1"] * 3, "columns=", "must say columns once"),
        (
            ["0", "1"] * 3,
            "label=label,site&classes=a,b",
            r"6 of 6 rows cannot be used: line 2 \(site is x, and not 0 or 1",
        ),
    ],
)
def test_classes_and_columns_that_do_not_fit_are_explained(
    save, cells, query, sentence
):
    with pytest.raises(InputError, match=sentence):
        load(save(COHORT | {"label": cells}), f"?{query}")


def test_ten_bad_rows_are_shown_and_the_others_counted(save):
    table = {k: v * 3 for k, v in COHORT.items()}
    table["path"] = [f"{i}.png" for i in range(12)] + NAMES
    with pytest.raises(InputError, match=r"12 of 18 rows .* line 11 .*, and 2 more"):
        load(save(table))


def test_images_that_cannot_be_read_are_named(save, tmp_path):
    (tmp_path / "d.png").write_text("no image")
    with pytest.raises(InputError, match=r"1 of 6 images cannot be used: d.png \(not"):
        load(save(COHORT))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; it needs a line of column names"),
        (b"\n\n", "has no rows"),
        (b"path,label,path\n", "has the column 'path' twice"),
        (
            b"path,label,split\na,b\na,b,c,d\n",
            r"2 of 2 rows .*line 2 \(2 cells, and th",
        ),
        (b'path,label,split\n"a,b,c\n', "line 2, is not CSV: .*Check its quotes"),
        ("path\ncafé\n".encode("latin-1"), "line 2 is not UTF-8. Save the table as"),
        (b"PK\x03\x04\x00\x00", "it holds bytes that are no text. Save"),
    ],
)
def test_a_file_that_is_no_table_is_explained(tmp_path, content, sentence):
    path = tmp_path / "cohort.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        load(path)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?patent=pid", "Unknown word in .* 'patent'. Did you mean 'patient'"),
        ("?path=", r"must say path once, as in '\?path=NAME'"),
        ("?path=path&path=path", "must say path once"),
        ("?split=fold", r"Unknown column of .* 'fold'.*\?split=COLUMN"),
        ("?patient=person", r"Unknown column of .* 'person'.*\?patient=COLUMN"),
        ("?label=label,lable", r"'lable'\. Did you mean 'label'"),
        ("?root=nowhere", "The folder of the images .*nowhere does not exist"),
    ],
)
def test_a_source_that_is_not_right_is_explained(save, query, sentence):
    with pytest.raises(InputError, match=sentence):
        load(save(COHORT), query)


def test_a_path_that_is_no_table_is_explained(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv does not exist\. Check the path"):
        load(tmp_path / "none.csv")
    with pytest.raises(InputError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(InputError, match="needs the path of a file"):
        load_dataset("table:")


@pytest.mark.parametrize("start", ["\n", "\n \n", "sep=;\n", '"sep=;"\n', ";;\n"])
def test_what_stands_above_the_columns_is_no_row(save, start):
    path = save(COHORT, delimiter=";")
    before = load(path).fingerprint
    path.write_text(start + path.read_text())
    assert load(path).fingerprint == before


@pytest.mark.parametrize(
    ("cells", "classes"),
    [
        (["1E50", "1E51"], ("1E50", "1E51")),
        (["1E2", "A10"], ("1E2", "A10")),
        (["007", "07"], ("007", "07")),
        (["TRUE", "false"], ("TRUE", "false")),
    ],
)
def test_codes_stay_text(save, cells, classes):
    data = load(save(COHORT | {"label": cells * 3}))
    assert data.class_names == classes
    assert data.train.labels.tolist() == [0, 1, 0]


def test_codes_beside_numbers_are_not_joined(save):
    table = save(COHORT | {"label": ["1E2", "100"] * 3})
    with pytest.raises(InputError, match="or say all classes in their order"):
        load(table)
    assert load(table, "?classes=100,1E2").class_names == ("100", "1E2")


@pytest.mark.parametrize(
    "cells",
    [
        ["TRUE", "FALSE", "TRUE", "true", "false", "FALSE"],
        ["Ill", "Well", "Ill", "ill", "well", "Well"],
        ["Very  ill", "Well", "Very  ill", "very ill", "WELL", "Well"],
        ["\u00e9", "b", "e\u0301", "e\u0301", "b", "B"],
    ],
)
def test_spellings_of_a_class_are_one(save, cells):
    data = load(save(COHORT | {"label": cells}))
    assert len(data.class_names) == 2
    assert set(data.class_names) <= {normalize("NFC", cell) for cell in cells}
    first = data.train.labels[0]
    assert data.train.labels.tolist() == [first, 1 - first, first]
    assert any("spelled otherwise" in note for note in data.notes)


def test_classes_that_differ_in_case_can_be_told_apart(save):
    data = load(save(COHORT | {"label": ["a", "A"] * 3}), "?classes=a,A")
    assert data.train.labels.tolist() == [0, 1, 0]


UNCERTAIN = {
    "path": NAMES,
    "split": COHORT["split"],
    "label_Mass": ["1.0", "-1.0", "0.0", "1.0", "0.0", "1.0"],
    "label_Edema": ["", "1", "0", "-1", "1", "0"],
}


@pytest.mark.parametrize(
    ("query", "train"),
    [
        ("", [[1, -1], [-1, 1], [0, 0]]),
        ("?uncertain=zeros", [[1, -1], [0, 1], [0, 0]]),
        ("?uncertain=ones", [[1, -1], [1, 1], [0, 0]]),
        ("?uncertain=ignore&blank=zeros", [[1, 0], [-1, 1], [0, 0]]),
    ],
)
def test_what_is_uncertain_is_what_is_said(save, query, train):
    for on_error in ("stop", "skip"):
        data = load(save(UNCERTAIN), query, on_error=on_error)
        assert data.train.labels.tolist() == train
        assert not data.skipped
        assert any("2 labels are -1, uncertain" in note for note in data.notes)


def test_uncertain_labels_can_be_refused(save):
    for on_error in ("stop", "skip"):
        with pytest.raises(InputError, match="2 labels are -1, uncertain, and the sou"):
            load(save(UNCERTAIN), "?uncertain=error", on_error=on_error)


def test_one_column_of_flags_can_be_uncertain(save):
    path = save(UNCERTAIN)
    with pytest.raises(InputError, match="uncertain=ignore makes it a label that can"):
        load(path, "?label=label_Mass")
    data = load(path, "?label=label_Mass&uncertain=ignore")
    assert (data.task, data.class_names) == ("multilabel", ("Mass",))
    assert data.train.labels.tolist() == [[1], [-1], [0]]


ONE_HOT = {
    "path": NAMES,
    "split": COHORT["split"],
    "label_MEL": ["1.0", "0.0", "0.0", "1", "0", "0"],
    "label_NV": ["0.0", "1.0", "0.0", "0", "1", "0"],
    "label_BCC": ["0.0", "0.0", "1.0", "0", "0", "1"],
}


def test_one_hot_columns_are_classes_unless_said_otherwise(save):
    data = load(save(ONE_HOT))
    assert (data.task, data.class_names) == ("multiclass", ("MEL", "NV", "BCC"))
    assert data.train.labels.tolist() == [0, 1, 2]
    assert "exactly one of the 3 columns" in data.notes[0]
    said = load(save(ONE_HOT), "?task=multilabel")
    assert (said.task, said.train.labels.shape) == ("multilabel", (3, 3))
    two = load(save({k: v for k, v in ONE_HOT.items() if k != "label_BCC"}))
    assert two.task == "multilabel"
    grades = load(save(ONE_HOT), "?task=ordinal&classes=NV,MEL,BCC")
    assert (grades.task, grades.train.labels.tolist()) == ("ordinal", [1, 0, 2])
    both = change("label_NV", 5, "1")(ONE_HOT)
    assert load(save(both)).task == "multilabel"
    with pytest.raises(InputError, match=r"f\.png with NV, BCC"):
        load(save(both), "?task=multiclass")


def test_contradicting_rows_are_left_out_all_of_them(save):
    table = {k: [*v, *v[:2]] for k, v in COHORT.items()}
    same = load(save(table))
    assert same.fingerprint == load(save(COHORT)).fingerprint
    assert "2 rows repeat an image with the same label" in same.notes
    edits = {
        "label": change("label", 6, "ill"),
        "patient": change("patient", 6, "9"),
        "split": change("split", 6, "test"),
    }
    for column, edit in edits.items():
        path = save(edit(table))
        with pytest.raises(
            InputError, match=rf"line 2 \(b.png has another {column} in"
        ):
            load(path)
        # Without b.png class "well" has one image left in train.
        data = load(path, on_error="skip")
        assert "b.png" not in data.train.ids + data.val.ids + data.test.ids
        assert set(data.skipped) == {"line 2", "line 8"}


def test_rows_of_one_image_in_several_spellings_do_not_contradict(save):
    table = {k: [*v, *v[:1]] for k, v in COHORT.items()}
    table["label"] = ["1", "0", "1.0", "0", "1", "0", "1.0"]
    assert len(load(save(table)).train) == 3


def test_splits_can_be_files(save, tmp_path):
    table = {k: v for k, v in COHORT.items() if k != "split"}
    expected = load(save(COHORT))
    for name, part in (("val", slice(3, 5)), ("test", slice(5, 6))):
        save({k: v[part] for k, v in table.items()}, f"{name}.csv")
        (tmp_path / f"{name}.txt").write_text("\n".join(NAMES[part]) + "\n")
    main = save({k: v[:3] for k, v in table.items()}, "main.csv")
    assert load(main, "?val=val.csv&test=test.csv").fingerprint == expected.fingerprint
    whole = save(table)
    assert load(whole, "?val=val.txt&test=test.txt").fingerprint == expected.fingerprint
    with pytest.raises(InputError, match="has train and test, and no val"):
        load(whole, "?test=test.txt")
    (tmp_path / "other.txt").write_text("g.png\n")
    with pytest.raises(InputError, match=r"other.txt names no image of .*cohort.csv"):
        load(whole, "?test=other.txt")
    save({"path": ["f.png"], "diagnosis": ["ill"]}, "test.csv")
    with pytest.raises(InputError, match=r"test\.csv has no column label, patient"):
        load(main, "?test=test.csv")


def test_names_of_splits_do_not_matter_where_all_is_shared_out(save):
    table = change("split", 5, "holdout")(COHORT)
    splitting = Splitting(split="stratified", val_share=0.2, test_share=0.2)
    assert len(load(save(table), splitting=splitting).train) > 0
    with pytest.raises(InputError, match="'holdout', and not one of"):
        load(save(table), splitting=Splitting(split="stratified", keep_test=True))
