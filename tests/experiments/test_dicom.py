"""What DICOM files say of the patient stays in them."""

from datetime import date

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom writes and reads DICOM")

from pydicom.examples import get_path  # noqa: E402

from jaxmed.experiments.__main__ import main  # noqa: E402

# Tags that identify, or help to.
PRIVATE = {
    "PatientName": "Doe^Jane",
    "PatientID": "4711-0815",
    "PatientBirthDate": date(1931, 7, 23).strftime("%Y%m%d"),
    "PatientAddress": "Elm Street 17",
    "AccessionNumber": "ACC90125",
    "InstitutionName": "Mercy Hospital",
    "ReferringPhysicianName": "Who^Doctor",
    "StudyInstanceUID": "1.2.826.0.1.3680043.8.498.4711",
    "ImageComments": "asked for by Mrs Doe",
}
RECIPE = """
[data]
source = "dicom:scans"
image_size = 28
memory = 0
on_error = "skip"
[model]
backbone = "resnet10_narrow"
[train]
strategy = "frozen"
options = {epochs = 1}
[evaluate]
resamples = 100
[explain]
images = 2
layer = "layer3"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with images of which one is broken."""
    monkeypatch.setenv("JAXMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    image = pydicom.dcmread(get_path("ct"))
    for name, value in PRIVATE.items():
        setattr(image, name, value)
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        for i in range(count):
            path = tmp_path / "scans" / split / ("ill", "well")[i % 2] / f"{i}.dcm"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 1500, (image.Rows, image.Columns), np.int16)
            image.PixelData = pixels.tobytes()
            image.save_as(path)
    path.write_bytes(path.read_bytes()[:-1000])
    (tmp_path / "scans.toml").write_text(RECIPE)
    return tmp_path


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_nothing_that_identifies_is_written(folder, capsys):
    assert main(["run", "scans.toml", "--out", "out"]) == 0
    run = "out/scans/main/seed-0"
    main(["inspect", "scans.toml", "--out", "sheet"])
    main(["predict", run, "scans/test", "--cam", "maps", "--out", "predicted.csv"])
    said = capsys.readouterr()
    assert "3.dcm" in (folder / "out/scans/main/seed-0/skipped.csv").read_text()
    scans = folder / "scans"
    written = {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and scans not in path.parents
    }
    names = {path.name for path in written}
    assert {"predictions.csv", "report.html", "inspect-scans.json"} <= names
    assert len(written) > 20
    said = {"terminal": (said.out + said.err).encode()}
    for value in PRIVATE.values():
        assert value.encode() in (scans / "train" / "ill" / "0.dcm").read_bytes()
        for place, content in (written | said).items():
            assert value.encode() not in content, f"{value} in {place}"
