"""Small imitations of eight published data sets, loaded as docs/data.md says it.

Names of files, folders and columns are those of the publication; pixels are noise.
"""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxmed.data.sources.registry import load_dataset
from jaxmed.data.splits.grouping import torn_groups
from jaxmed.data.splits.splitting import Splitting
from jaxmed.errors import InputError

RNG = np.random.default_rng(0)
PATIENT = Splitting(split="patient", val_share=0.2, test_share=0.2)
STRATIFIED = Splitting(split="stratified", val_share=0.2, test_share=0.2)
KEEP_TEST = Splitting(split="patient", val_share=0.2, keep_test=True)
DOCS = Path(__file__).parents[2] / "docs" / "data.md"


def draw(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 8), np.uint8)).save(path)


def write(path: Path, columns: str, rows: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([columns, *rows]) + "\n")


def source_of(folder: Path, name: str) -> str:
    """Returns the line of docs/data.md on a published set, for where it lies here."""
    (line,) = re.findall(
        rf"^\| {name} \|.*`((?:table|folder):\S.*?)`", DOCS.read_text("utf-8"), re.M
    )
    scheme, _, rest = line.replace("\\|", "|").partition(":")
    return f"{scheme}:{folder}/{rest}"


def load(folder: Path, name: str, splitting: Splitting):
    return load_dataset(source_of(folder, name), image_size=8, splitting=splitting)


def ids_of(data):
    return data.train.ids + data.val.ids + data.test.ids


def torn(data):
    parts = {name: getattr(data, name).groups for name in ("train", "val", "test")}
    return torn_groups(parts)


def test_chest_x_rays_of_kermany(tmp_path):
    root = tmp_path / "chest_xray"
    for split, people in (("train", 20), ("val", 4), ("test", 6)):
        for i in range(people):
            number = i + 100 * len(split)
            draw(root / split / "NORMAL" / f"IM-{number:04d}-0001.jpeg")
            for k in (1, 2):
                name = f"person{number}_bacteria_{10 * number + k}.jpeg"
                draw(root / split / "PNEUMONIA" / name)
    # Kaggle's archive has the set twice, and what a Mac left.
    draw(root / "__MACOSX" / "chest_xray" / "x.jpeg")
    draw(root / "chest_xray" / "train" / "NORMAL" / "IM-0001-0001.jpeg")
    splitting = Splitting(
        split="patient",
        val_share=0.2,
        keep_test=True,
        group_pattern=r"person(\d+)_|IM-(\d+)-",
    )
    given = load(tmp_path, "Kaggle chest X-ray", Splitting())
    data = load(tmp_path, "Kaggle chest X-ray", splitting)
    assert data.class_names == ("NORMAL", "PNEUMONIA")
    assert set(data.test.ids) == set(given.test.ids)
    assert len(given.val) == 12
    assert abs(len(data.val) - 0.2 * 72) <= 2
    assert not torn(data)
    assert any(i.startswith("train/") for i in data.val.ids)
    assert "the folders chest_xray, which are left out" in data.notes[0]
    with pytest.raises(InputError, match=r"Did you mean .*chest_xray\?"):
        load_dataset(f"folder:{tmp_path}", image_size=8)


NIH_CELLS = (
    "No Finding", "Atelectasis", "Effusion", "Atelectasis|Effusion",
    "Effusion|Mass|Pleural_Thickening",
)  # fmt: skip


def test_chest_x_ray_14_of_the_nih(tmp_path):
    root = tmp_path / "nih"
    rows, names = [], []
    for i in range(60):
        patient, index = i // 3 + 1, i % 3
        names.append(f"{patient:08d}_{index:03d}.png")
        draw(root / f"images_{i % 4 + 1:03d}" / "images" / names[-1])
        rows.append(
            f"{names[-1]},{NIH_CELLS[i % 5]},{index},{patient},58,M,PA,2682,2749,"
            "0.143,0.143,"
        )
    header = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
    )
    write(root / "Data_Entry_2017.csv", header, rows)
    (root / "train_val_list.txt").write_text("\n".join(names[:45]))
    (root / "test_list.txt").write_text("\n".join(names[45:]))
    data = load(tmp_path, "NIH ChestX-ray14", KEEP_TEST)
    expected = ("Atelectasis", "Effusion", "Mass", "Pleural_Thickening")
    assert (data.task, data.class_names) == ("multilabel", expected)
    assert {Path(i).name for i in data.test.ids} == set(names[45:])
    assert sorted(Path(i).name for i in ids_of(data)) == names
    assert not torn(data)
    assert len({*(data.train.groups or ()), *(data.val.groups or ())}) == 15
    for split in (data.train, data.val, data.test):
        for i, labels in zip(split.ids, split.labels, strict=True):
            cell = NIH_CELLS[names.index(Path(i).name) % 5].split("|")
            assert labels.tolist() == [int(name in cell) for name in expected]
    assert "No Finding is none of them" in " ".join(data.notes)
    with pytest.raises(
        InputError, match=r"has train and test, and no val\..*keep_test"
    ):
        load(tmp_path, "NIH ChestX-ray14", Splitting())


FINDINGS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,"
    "Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,"
    "Fracture,Support Devices"
)


def test_chexpert(tmp_path):
    root = tmp_path / "CheXpert-v1.0-small"
    for split, file, people in (("train", "train", 30), ("valid", "valid", 8)):
        rows = []
        for i in range(people):
            patient = f"patient{i + (1 if split == 'train' else 64541):05d}"
            for view in range(1 + i % 2):
                name = f"{split}/{patient}/study1/view{view + 1}_frontal.jpg"
                draw(root / name)
                cells = [("", "1.0", "0.0", "-1.0")[(i + k) % 4] for k in range(14)]
                if split == "valid":
                    cells = [str(float((i + k) % 2)) for k in range(14)]
                rows.append(
                    f"CheXpert-v1.0-small/{name},Female,68,Frontal,AP,{','.join(cells)}"
                )
        write(
            root / f"{file}.csv", f"Path,Sex,Age,Frontal/Lateral,AP/PA,{FINDINGS}", rows
        )
    splitting = Splitting(
        split="patient", val_share=0.2, keep_test=True, group_pattern=r"(patient\d+)"
    )
    data = load(tmp_path, "CheXpert", splitting)
    names = (
        "Atelectasis",
        "Cardiomegaly",
        "Consolidation",
        "Edema",
        "Pleural Effusion",
    )
    assert (data.task, data.class_names) == ("multilabel", names)
    assert all(i.startswith("valid/") for i in data.test.ids)
    assert (len(data.test), len(data.train) + len(data.val)) == (12, 45)
    assert not torn(data)
    # An empty cell is none, and an uncertain one is left out; no row is.
    with (root / "train.csv").open() as file:
        rows = {r["Path"].partition("/")[2]: r for r in csv.DictReader(file)}
    means = {"": 0, "0.0": 0, "1.0": 1, "-1.0": -1}
    for i, labels in zip(data.train.ids, data.train.labels, strict=True):
        assert labels.tolist() == [means[rows[i][name]] for name in names]
    assert "are -1, uncertain, and taken as not known" in " ".join(data.notes)


KINDS = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


def test_ham10000(tmp_path):
    root, rows = tmp_path / "HAM10000", []
    for i in range(84):
        name = f"ISIC_{i + 24306:07d}"
        part = f"HAM10000_images_part_{1 + (i > 40)}"
        draw(root / part / f"{name}.jpg")
        lesion = i // 2
        rows.append(
            f"HAM_{lesion:07d},{name},{KINDS[lesion % 7]},histo,80.0,male,scalp"
        )
    write(
        root / "HAM10000_metadata.csv",
        "lesion_id,image_id,dx,dx_type,age,sex,localization",
        rows,
    )
    data = load(tmp_path, "HAM10000", PATIENT)
    assert (data.task, data.class_names) == ("multiclass", KINDS)
    assert len(ids_of(data)) == 84
    assert not torn(data)
    assert set(data.train.labels) == set(data.test.labels) == set(range(7))


def test_isic_2019(tmp_path):
    root, rows = tmp_path / "ISIC_2019", []
    for i in range(80):
        ending = "_downsampled" * (i % 3 == 0)
        draw(root / "ISIC_2019_Training_Input" / f"ISIC_{i:07d}{ending}.jpg")
        cells = ["1.0" if k == i % 8 else "0.0" for k in range(9)]
        rows.append(f"ISIC_{i:07d}{ending},{','.join(cells)}")
    columns = "image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK"
    write(root / "ISIC_2019_Training_GroundTruth.csv", columns, rows)
    data = load(tmp_path, "ISIC 2019", STRATIFIED)
    assert data.task == "multiclass"
    assert data.class_names == tuple(columns.split(",")[1:-1])
    for i, label in zip(data.train.ids, data.train.labels, strict=True):
        assert int(i.partition("ISIC_00")[2][:5]) % 8 == label
    # UNK, of which no image is.
    every = source_of(tmp_path, "ISIC 2019").replace("SCC", "SCC,UNK")
    with pytest.raises(InputError, match="the table has no UNK"):
        load_dataset(every, image_size=8, splitting=STRATIFIED)


def test_aptos_2019(tmp_path):
    root, rows = tmp_path / "aptos2019", []
    for i in range(50):
        name = f"{0xC24A1B14 + 7919 * i:012x}"
        draw(root / "train_images" / f"{name}.png")
        draw(root / "test_images" / f"{name[::-1]}.png")
        rows.append(f"{name},{i % 5}")
    write(root / "train.csv", "id_code,diagnosis", rows)
    data = load(tmp_path, "APTOS 2019", STRATIFIED)
    assert (data.task, data.class_names) == ("ordinal", ("0", "1", "2", "3", "4"))
    assert len(ids_of(data)) == 50
    assert all(i.startswith("train_images/") for i in ids_of(data))


def write_rsna(root: Path) -> list[str]:
    rows = []
    for i in range(40):
        name = f"{0x0004CFAB + 104729 * i:08x}-14fd-4e49-80ba-63a80b6bddd6"
        if i % 2:
            rows += [
                f"{name},{264 + k}.0,152.0,213.0,379.0,1" for k in range(1 + i % 3)
            ]
        else:
            rows.append(f"{name},,,,,0")
    columns = "patientId,x,y,width,height,Target"
    write(root / "stage_2_train_labels.csv", columns, rows)
    return list(dict.fromkeys(row.split(",")[0] for row in rows))


def test_rsna_pneumonia(tmp_path):
    pydicom = pytest.importorskip("pydicom", reason="pydicom reads DICOM")
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    root = tmp_path / "rsna"
    names = write_rsna(root)
    for name in names:
        made = pydicom.Dataset()
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
        made.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.UID("1.2.3")
        made.Rows = made.Columns = 8
        made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
        made.BitsAllocated = made.BitsStored = 8
        made.HighBit, made.PixelRepresentation = 7, 0
        made.PixelData = RNG.integers(0, 256, 64, np.uint8).tobytes()
        made["PixelData"].VR = "OB"
        path = root / "stage_2_train_images" / f"{name}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
    data = load(tmp_path, "RSNA pneumonia", STRATIFIED)
    assert (data.task, data.class_names) == ("binary", ("0", "1"))
    assert sorted(Path(i).stem for i in ids_of(data)) == sorted(names)
    for i, label in zip(data.train.ids, data.train.labels, strict=True):
        assert names.index(Path(i).stem) % 2 == label
    assert "rows repeat an image with the same label" in " ".join(data.notes)


def test_rsna_pneumonia_as_png(tmp_path):
    """As many have converted it, the table as it was."""
    root = tmp_path / "rsna"
    names = write_rsna(root)
    for name in names:
        draw(root / "stage_2_train_images" / f"{name}.png")
    data = load(tmp_path, "RSNA pneumonia", STRATIFIED)
    assert sorted(Path(i).stem for i in ids_of(data)) == sorted(names)


COVID = ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia")


def test_covid_19_radiography(tmp_path):
    root = tmp_path / "COVID-19_Radiography_Dataset"
    for name in COVID:
        for i in range(10):
            draw(root / name / "images" / f"{name}-{i + 1}.png")
            draw(root / name / "masks" / f"{name}-{i + 1}.png")
        write(root / f"{name}.metadata.xlsx", "", [])
    write(root / "README.md.txt", "", [])
    data = load(tmp_path, "COVID-19 radiography", STRATIFIED)
    assert (data.task, data.class_names) == ("multiclass", COVID)
    assert sorted(ids_of(data)) == sorted(
        f"{name}/images/{name}-{i + 1}.png" for name in COVID for i in range(10)
    )
