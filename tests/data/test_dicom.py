"""`dicom:PATH` on files that pydicom writes, against pydicom's own way to show them."""

import sys

import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom", reason="pydicom writes and reads DICOM")

from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.pixels import apply_modality_lut, apply_voi_lut, pixel_array  # noqa: E402
from pydicom.uid import (  # noqa: E402
    ExplicitVRLittleEndian,
    JPEGLosslessSV1,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from jaxmed.data.decode import UnusableImage, fit_square  # noqa: E402
from jaxmed.data.dicom import decode_dicom  # noqa: E402
from jaxmed.data.lazy import LazyImages  # noqa: E402
from jaxmed.data.resizing import MODES, Resizing  # noqa: E402
from jaxmed.data.sources import load_dataset  # noqa: E402
from jaxmed.data.split import Splitting  # noqa: E402
from jaxmed.errors import InputError  # noqa: E402

NAME, NUMBER = "Doe^Jane", "4711-0815"


def noise(shape=(6, 8), *, bits=12, seed=0):
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype)


def make(pixels, *, bits=12, colours="MONOCHROME2", **tags):
    """A file's content, of a patient with a name."""
    made = pydicom.Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    made.SOPClassUID = SecondaryCaptureImageStorage
    made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID = NAME, NUMBER
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.PhotometricInterpretation = colours
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored, made.HighBit = bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in tags.items():
        setattr(made, name, value)
    return made


@pytest.fixture
def save(tmp_path):
    def save(made, name="scan.dcm"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made.save_as(path, enforce_file_format=True)
        return path

    return save


def table(values, bits=8):
    """A lookup table from 0 on, as DICOM has it."""
    made = pydicom.Dataset()
    made.add_new("LUTDescriptor", "US", [len(values), 0, bits])
    made.add_new("LUTData", "US", values)
    return made


FALLING = list(range(4095, -1, -1))


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 1000, "WindowWidth": 700},
        {"WindowCenter": 1000, "WindowWidth": 1},
        {"WindowCenter": [40.5, 2000], "WindowWidth": [1400.5, 100]},
        {
            "WindowCenter": 1000,
            "WindowWidth": 700,
            "VOILUTFunction": "LINEAR_EXACT",
        },
        {"WindowCenter": 1000, "WindowWidth": 700, "VOILUTFunction": "SIGMOID"},
        {
            "WindowCenter": 40,
            "WindowWidth": 400,
            "RescaleSlope": 0.5,
            "RescaleIntercept": -1024,
        },
        {"RescaleSlope": 2, "RescaleIntercept": -1024},
        {"RescaleSlope": 1, "RescaleIntercept": -1024},
        {},
        {"VOILUTSequence": [table(FALLING, bits=12)]},
    ],
)
def test_grey_values_are_shown_as_pydicom_shows_them(save, tags):
    path = save(make(noise(), **tags))
    header = pydicom.dcmread(path)
    values = apply_modality_lut(pixel_array(header), header)
    slope = float(tags.get("RescaleSlope", 1))
    low = float(tags.get("RescaleIntercept", 0))
    if "VOILUTSequence" not in tags:
        values = values.astype(float)
    shown = apply_voi_lut(values, header)
    expected = 255 * np.clip((shown - low) / (slope * 4095), 0, 1)
    found = decode_dicom(path)
    assert (found.dtype, found.shape) == (np.uint8, (6, 8, 1))
    # Its sigmoid adds the lowest value to a share of the range, and so does ours.
    np.testing.assert_allclose(found[..., 0], expected, atol=0.5 + 1e-9)
    assert len(np.unique(found)) > 1


def test_a_lookup_table_of_the_modality(save):
    tags = {"ModalityLUTSequence": [table([16 * i for i in FALLING], bits=16)]}
    found = decode_dicom(save(make(noise(), **tags)))
    expected = 255 * 16 * (4095 - noise().astype(float)) / 65535
    np.testing.assert_allclose(found[..., 0], expected, atol=0.5)


def test_signed_values_fill_the_range_of_their_bits(save):
    pixels = np.array([[-2048, 0], [1024, 2047]], np.int16)
    found = decode_dicom(save(make(pixels)))
    assert found[..., 0].tolist() == [[0, 128], [191, 255]]


def test_monochrome1_is_inverted(save):
    dark = decode_dicom(save(make(noise(), colours="MONOCHROME1")))
    np.testing.assert_array_equal(255 - dark, decode_dicom(save(make(noise()))))


def test_a_falling_scale_turns_the_image_round(save):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    found = decode_dicom(save(make(noise(), **tags)))
    np.testing.assert_array_equal(255 - found, decode_dicom(save(make(noise()))))


def test_colours(save):
    pixels = noise((6, 8, 3), bits=8)
    found = decode_dicom(save(make(pixels, bits=8, colours="RGB")))
    np.testing.assert_array_equal(found, pixels)
    equal = np.repeat(pixels[..., :1], 3, axis=2)
    found = decode_dicom(save(make(equal, bits=8, colours="RGB")))
    np.testing.assert_array_equal(found, equal[..., :1])


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(save, bits):
    pixels = noise(bits=8)
    made = make(pixels, bits=8, colours="PALETTE COLOR")
    ramps = {
        "Red": np.arange(256),
        "Green": np.arange(256)[::-1],
        "Blue": np.arange(256) // 2,
    }
    for colour, ramp in ramps.items():
        entries = (ramp << (bits - 8)).astype(f"<u{bits // 8}")
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(made, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    expected = np.stack([ramp[pixels] for ramp in ramps.values()], -1)
    np.testing.assert_array_equal(decode_dicom(save(made)), expected)


def test_lossless_compression_without_further_packages(save):
    made = make(noise())
    expected = decode_dicom(save(made))
    made.compress(RLELossless)
    np.testing.assert_array_equal(decode_dicom(save(made)), expected)


@pytest.mark.parametrize("mode", MODES)
def test_large_images_become_squares_as_pictures_do(save, mode):
    path = save(make(noise((20, 30))))
    whole, resizing = decode_dicom(path), Resizing(mode=mode)
    found = decode_dicom(path, 10, resizing)
    np.testing.assert_array_equal(found, fit_square(whole, 10, resizing))
    np.testing.assert_array_equal(decode_dicom(path, 30, resizing), whole)


def without(name):
    def edit(made):
        delattr(made, name)

    return edit


def with_syntax(uid):
    def edit(made):
        made.file_meta.TransferSyntaxUID = uid
        made.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        made["PixelData"].VR = "OB"

    return edit


def with_tag(name, value):
    return lambda made: setattr(made, name, value)


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (with_tag("NumberOfFrames", 30), "30 frames, and an image is one"),
        (without("PixelData"), "it holds no image"),
        (
            without("PhotometricInterpretation"),
            "lacks the tag PhotometricInterpretation",
        ),
        (with_tag("PixelData", b"\0" * 10), "damaged or cut off"),
        (with_tag("PhotometricInterpretation", "HSV"), "16-bit pixels of the kind HSV"),
        (
            lambda made: (
                setattr(made, "WindowCenter", 3) or setattr(made, "WindowWidth", 0)
            ),
            "its window has no width",
        ),
        (with_tag("Rows", 65535), "damaged or cut off"),
        (
            lambda made: (
                setattr(made, "Rows", 65535) or setattr(made, "Columns", 65535)
            ),
            "more than 100,000,000 pixels",
        ),
        (
            with_syntax(JPEGLosslessSV1),
            r"compressed as JPEG Lossless.*further packages: pip install pylibjpeg",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_used_is_explained_without_the_patient(save, edit, sentence):
    made = make(noise())
    edit(made)
    with pytest.raises(UnusableImage, match=sentence) as caught:
        decode_dicom(save(made))
    assert NAME not in str(caught.value)
    assert NUMBER not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 200, 600, -1])
@pytest.mark.filterwarnings("ignore")
def test_truncated_files_are_explained(save, keep):
    path = save(make(noise()))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnusableImage, match=r"damaged|cut off|no image|empty"):
        decode_dicom(path)


@pytest.fixture
def root(save, tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for i in range(count):
            name = f"{split}/{'ill' if i % 2 else 'well'}/{i}.dcm"
            save(make(noise(seed=i)), f"scans/{name}")
    return tmp_path / "scans"


def test_a_folder_of_them(root):
    for name in ("train/ill/notes.txt", "train/ill/picture.png"):
        (root / name).write_text("not looked at")
    data = load_dataset(f"dicom:{root}")
    assert (data.source, data.task) == (f"dicom:{root}", "binary")
    assert data.class_names == ("ill", "well")
    assert data.val.ids == ("val/ill/1.dcm", "val/well/0.dcm")
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    for image, name in zip(data.train.images, data.train.ids, strict=True):
        np.testing.assert_array_equal(image, decode_dicom(root / name))
    assert NAME not in repr(data)
    assert NUMBER not in repr(data)
    assert data.train.groups is None


def test_a_folder_of_them_without_splits(root):
    splitting = Splitting(split="stratified", val_share=0.25, test_share=0.25)
    data = load_dataset(f"dicom:{root / 'train'}", splitting=splitting)
    assert len(data.train) == 2


@pytest.mark.filterwarnings("ignore")
def test_files_that_stay_on_disk_give_the_same(root, tmp_path):
    def load(memory):
        return load_dataset(
            f"dicom:{root}",
            image_size=5,
            memory_budget=memory,
            on_error="skip",
            cache=tmp_path / "cache",
        )

    (root / "val" / "ill" / "1.dcm").write_bytes(b"")
    (root / "train" / "ill" / "1.dcm").write_text("no DICOM" * 100)
    cut = root / "test" / "ill" / "1.dcm"
    cut.write_bytes(cut.read_bytes()[:-40])
    at_once, lazily = load(1), load(0)
    assert isinstance(lazily.train.images, LazyImages)
    assert lazily.skipped.keys() == at_once.skipped.keys()
    assert len(lazily.skipped) == 3
    for one, other in ((at_once.train, lazily.train), (at_once.test, lazily.test)):
        assert one.ids == other.ids
        np.testing.assert_array_equal(one.images, other.images[:])
    assert lazily.fingerprint == load(0).fingerprint


@pytest.mark.filterwarnings("ignore")
def test_bad_files_and_folders_are_explained(root, tmp_path):
    (root / "val" / "ill" / "1.dcm").write_bytes(b"")
    (root / "train" / "ill" / "1.dcm").write_text("no DICOM" * 100)
    with pytest.raises(InputError, match=r"dicom:.*2 of 8 images cannot be used: tr"):
        load_dataset(f"dicom:{root}")
    with pytest.raises(InputError, match="Check the path after 'dicom:'"):
        load_dataset(f"dicom:{tmp_path / 'none'}")
    for path in (root / "test").rglob("*.dcm"):
        path.unlink()
    with pytest.raises(InputError, match=r"looked for files ending in .dcm, .dicom\."):
        load_dataset(f"dicom:{root}")


def test_without_pydicom_it_is_said_what_to_install(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r"pip install 'jaxmed\[dicom\]'"):
        load_dataset(f"dicom:{root}")
