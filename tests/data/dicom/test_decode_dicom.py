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

from jaxmed.data.images.decode import decode, fit_square, read_header  # noqa: E402
from jaxmed.data.images.lazy import LazyImages  # noqa: E402
from jaxmed.data.images.picture import NO_SCALE, UnusableImage  # noqa: E402
from jaxmed.data.images.resizing import MODES, Resizing  # noqa: E402
from jaxmed.data.images.window import parse_window  # noqa: E402
from jaxmed.data.sources.registry import load_dataset  # noqa: E402
from jaxmed.data.splits.splitting import Splitting  # noqa: E402
from jaxmed.errors import InputError  # noqa: E402

NAME, NUMBER = "Doe^Jane", "4711-0815"


def noise(shape=(6, 8), *, bits=12, seed=0):
    dtype = np.uint8 if bits <= 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**bits, shape, dtype)


def make(pixels, *, bits=12, colors="MONOCHROME2", **tags):
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
    made.PhotometricInterpretation = colors
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
def test_gray_values_are_shown_as_pydicom_shows_them(save, tags):
    path = save(make(noise(), **tags))
    header = pydicom.dcmread(path)
    values = apply_modality_lut(pixel_array(header), header)
    slope = float(tags.get("RescaleSlope", 1))
    low = float(tags.get("RescaleIntercept", 0))
    if "VOILUTSequence" not in tags:
        values = values.astype(float)
    shown = apply_voi_lut(values, header)
    expected = 255 * np.clip((shown - low) / (slope * 4095), 0, 1)
    found = decode(path)
    assert (found.dtype, found.shape) == (np.uint8, (6, 8, 1))
    # Its sigmoid adds the lowest value to a share of the range, and so does ours.
    np.testing.assert_allclose(found[..., 0], expected, atol=0.5 + 1e-9)
    assert len(np.unique(found)) > 1


def test_a_lookup_table_of_the_modality(save):
    tags = {"ModalityLUTSequence": [table([16 * i for i in FALLING], bits=16)]}
    found = decode(save(make(noise(), **tags)))
    expected = 255 * 16 * (4095 - noise().astype(float)) / 65535
    np.testing.assert_allclose(found[..., 0], expected, atol=0.5)


def test_signed_values_fill_the_range_of_their_bits(save):
    pixels = np.array([[-2048, 0], [1024, 2047]], np.int16)
    found = decode(save(make(pixels)))
    assert found[..., 0].tolist() == [[0, 128], [191, 255]]


def test_monochrome1_is_inverted(save):
    dark = decode(save(make(noise(), colors="MONOCHROME1")))
    np.testing.assert_array_equal(255 - dark, decode(save(make(noise()))))


def test_a_falling_scale_turns_the_image_round(save):
    tags = {"RescaleSlope": -1, "RescaleIntercept": 4095}
    found = decode(save(make(noise(), **tags)))
    np.testing.assert_array_equal(255 - found, decode(save(make(noise()))))


def test_colors(save):
    pixels = noise((6, 8, 3), bits=8)
    found = decode(save(make(pixels, bits=8, colors="RGB")))
    np.testing.assert_array_equal(found, pixels)
    equal = np.repeat(pixels[..., :1], 3, axis=2)
    found = decode(save(make(equal, bits=8, colors="RGB")))
    np.testing.assert_array_equal(found, equal[..., :1])


@pytest.mark.parametrize("bits", [8, 16])
def test_palettes(save, bits):
    pixels = noise(bits=8)
    made = make(pixels, bits=8, colors="PALETTE COLOR")
    ramps = {
        "Red": np.arange(256),
        "Green": np.arange(256)[::-1],
        "Blue": np.arange(256) // 2,
    }
    for color, ramp in ramps.items():
        entries = (ramp << (bits - 8)).astype(f"<u{bits // 8}")
        setattr(made, f"{color}PaletteColorLookupTableDescriptor", [256, 0, bits])
        setattr(made, f"{color}PaletteColorLookupTableData", entries.tobytes())
    expected = np.stack([ramp[pixels] for ramp in ramps.values()], -1)
    np.testing.assert_array_equal(decode(save(made)), expected)


def test_lossless_compression_without_further_packages(save):
    made = make(noise())
    expected = decode(save(made))
    made.compress(RLELossless)
    np.testing.assert_array_equal(decode(save(made)), expected)


@pytest.mark.parametrize("mode", MODES)
def test_large_images_become_squares_as_pictures_do(save, mode):
    path = save(make(noise((20, 30))))
    whole, resizing = decode(path), Resizing(mode=mode)
    found = decode(path, 10, resizing)
    np.testing.assert_array_equal(found, fit_square(whole, 10, resizing))
    np.testing.assert_array_equal(decode(path, 30, resizing), whole)


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
        decode(save(made))
    assert NAME not in str(caught.value)
    assert NUMBER not in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, 200, 600, -1])
@pytest.mark.filterwarnings("ignore")
def test_truncated_files_are_explained(save, keep):
    path = save(make(noise()))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UnusableImage, match=r"damaged|cut off|no image|empty"):
        decode(path)


RAMP = np.linspace(0, 4095, 16).astype(np.uint16).reshape(4, 4)
SEVENTEENS = np.arange(0, 256, 17).reshape(4, 4)


@pytest.mark.parametrize("empty", [{"RescaleSlope"}, {"RescaleIntercept"}, set()])
@pytest.mark.parametrize("others", [None, "WindowCenter", "PixelPaddingValue"])
def test_empty_tags_say_nothing(save, empty, others):
    made = make(RAMP)
    for name in empty | ({others} if others else set()):
        setattr(made, name, None)
    np.testing.assert_array_equal(decode(save(made))[..., 0], SEVENTEENS)


def test_a_decimal_comma_is_a_decimal_point(save):
    tags = {"RescaleSlope": "0.5", "RescaleIntercept": "-1.5"}
    tags |= {"WindowCenter": ["40.25", "7.5"], "WindowWidth": ["400.5", "9.5"]}
    path = save(make(noise(), **tags))
    expected, content = decode(path), path.read_bytes()
    for number in ("400.5", "40.25", "0.5", "-1.5", "7.5", "9.5"):
        assert content.count(number.encode()) > 0
        content = content.replace(number.encode(), number.replace(".", ",").encode())
    path.write_bytes(content)
    np.testing.assert_array_equal(decode(path), expected)
    path.write_bytes(content.replace(b"400,5", b"400;5"))
    with pytest.raises(UnusableImage, match="its tag WindowWidth is no number"):
        decode(path)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("meta", ["empty", "none"])
def test_a_missing_transfer_syntax_is_found_out(tmp_path, implicit, little, meta):
    if implicit and not little:
        pytest.skip("DICOM has no such encoding")
    made = make(RAMP if little else RAMP.byteswap())
    made["PixelData"].VR = "OW" if little else "OB"
    path = tmp_path / "scan.dcm"
    del made.file_meta.TransferSyntaxUID
    if meta == "empty":
        made.preamble = b"\0" * 128
    else:
        del made.file_meta
    options = {"implicit_vr": implicit, "little_endian": little}
    pydicom.dcmwrite(path, made, enforce_file_format=False, **options)
    assert (path.read_bytes()[128:132] == b"DICM") == (meta == "empty")
    np.testing.assert_array_equal(decode(path)[..., 0], SEVENTEENS)
    # It is known by its content, whatever its name.
    renamed = path.rename(path.with_name("IM_0001"))
    np.testing.assert_array_equal(decode(renamed)[..., 0], SEVENTEENS)


def test_compressed_pixels_without_a_transfer_syntax_name_the_tag(save):
    made = make(RAMP)
    made.compress(RLELossless)
    path = save(made)
    made = pydicom.dcmread(path)
    del made.file_meta.TransferSyntaxUID
    made.save_as(path, enforce_file_format=False, implicit_vr=False, little_endian=True)
    with pytest.raises(UnusableImage, match="the tag TransferSyntaxUID"):
        decode(path)


def test_tags_that_follow_from_others_may_be_missing(save):
    made = make(RAMP.astype(np.uint8), bits=8)
    expected = decode(save(made))
    for name in ("SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(made, name)
    np.testing.assert_array_equal(decode(save(made)), expected)


@pytest.mark.parametrize("place", ["frame", "shared", "both"])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_an_enhanced_file_of_one_frame(save, place, function):
    def groups(center, slope):
        group, rescale, window = (pydicom.Dataset() for _ in range(3))
        rescale.RescaleSlope, rescale.RescaleIntercept = slope, -1000
        window.WindowCenter, window.WindowWidth = center, 500
        window.VOILUTFunction = function
        group.PixelValueTransformationSequence = [rescale]
        group.FrameVOILUTSequence = [window]
        return [group]

    made = make(noise(), NumberOfFrames=1)
    if place != "shared":
        made.PerFrameFunctionalGroupsSequence = groups(1000, 2)
    if place != "frame":
        # What all frames share stands behind what the one says itself.
        made.SharedFunctionalGroupsSequence = groups(
            *((1000, 2) if place == "shared" else (0, 7))
        )
    flat = make(
        noise(),
        RescaleSlope=2,
        RescaleIntercept=-1000,
        WindowCenter=1000,
        WindowWidth=500,
        VOILUTFunction=function,
    )
    values = apply_modality_lut(noise(), flat).astype(float)
    # pydicom's range is that of the rescaled values.
    shown = apply_voi_lut(values, flat)
    expected = 255 * np.clip((shown + 1000) / (2 * 4095), 0, 1)
    found = decode(save(made))[..., 0]
    np.testing.assert_allclose(found, expected, atol=0.5 + 1e-9)


def test_a_lookup_table_goes_before_a_window_as_in_pydicom(save):
    tags = {"VOILUTSequence": [table(FALLING, bits=12)]}
    tags |= {"WindowCenter": 1000, "WindowWidth": 700}
    path = save(make(noise(), **tags))
    shown = apply_voi_lut(noise(), pydicom.dcmread(path)).astype(float)
    np.testing.assert_allclose(decode(path)[..., 0], shown * 255 / 4095, atol=0.5)


def test_a_lookup_table_of_8_bits_has_as_many_entries_as_it_says(save):
    entries = [i // 16 for i in range(4096)]
    path = save(make(noise(), VOILUTSequence=[table(entries, bits=8)]))
    np.testing.assert_array_equal(decode(path)[..., 0], noise() // 16)


@pytest.mark.parametrize("colors", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": 3, "WindowWidth": 2000}])
@pytest.mark.parametrize("limit", [None, 50])
@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_padding_is_black_and_all_else_as_it_was(save, colors, window, limit, dtype):
    pixels = noise(bits=11).astype(dtype)
    pixels[0] = 20
    pixels[1, 0] = 50
    plain = decode(save(make(pixels, colors=colors, **window)))
    tags = {"PixelPaddingValue": 20} | (
        {"PixelPaddingRangeLimit": limit} if limit else {}
    )
    found = decode(save(make(pixels, colors=colors, **window, **tags)))
    outside = (pixels >= 20) & (pixels <= (limit or 20))
    assert outside.sum() >= 8
    assert (found[outside] == 0).all()
    np.testing.assert_array_equal(found[~outside], plain[~outside])


def test_a_palette_of_8_bits_that_says_16(save):
    pixels = noise(bits=8)
    made = make(pixels, bits=8, colors="PALETTE COLOR")
    for color in ("Red", "Green", "Blue"):
        entries = np.arange(256).astype("<u2")
        setattr(made, f"{color}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(made, f"{color}PaletteColorLookupTableData", entries.tobytes())
    np.testing.assert_array_equal(decode(save(made))[..., 0], pixels)


@pytest.mark.parametrize("own", [{}, {"WindowCenter": 9, "WindowWidth": 5}])
def test_a_window_that_is_set_is_shown_as_pydicom_shows_it(save, own):
    scale = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    path = save(make(noise(), **scale, **own))
    found = decode(path, window=parse_window("40,400"))[..., 0]
    same = make(noise(), **scale, WindowCenter=40, WindowWidth=400)
    shown = apply_voi_lut(apply_modality_lut(noise(), same).astype(float), same)
    expected = 255 * (shown + 1024) / (2 * 4095)
    np.testing.assert_allclose(found, expected, atol=0.5 + 1e-9)


@pytest.mark.parametrize("memory", [9, 0])
@pytest.mark.parametrize("slope", [1, -1])
def test_scans_that_use_few_of_their_bits_keep_their_levels(
    save, tmp_path, slope, memory
):
    for split, high in (("train", 600), ("val", 60_000), ("test", 900)):
        for i, label in enumerate("aabb"):
            pixels = (noise((40, 40), seed=i).astype(float) * high / 4095).astype("u2")
            tags = {"RescaleSlope": slope, "RescaleIntercept": -24}
            save(make(pixels, bits=16, **tags), f"scans/{split}/{label}/{i}.dcm")
    # A file's own window is kept, whatever the range of the others.
    tags = {"WindowCenter": 3000, "WindowWidth": 4000}
    own = save(make(noise((40, 40)), bits=16, **tags), "scans/test/a/own.dcm")
    data = load_dataset(
        f"dicom:{tmp_path / 'scans'}",
        image_size=40,
        memory_budget=memory,
        cache=tmp_path / "cache",
    )
    low, high = data.window.limits
    ends = sorted((-24, slope * 600 - 24))
    assert (low, high) == pytest.approx(ends, abs=4)
    for image, name in zip(data.test.images[:], data.test.ids, strict=True):
        path = tmp_path / "scans" / name
        np.testing.assert_array_equal(image, decode(path, window=data.window))
        assert len(np.unique(image)) > 100
    row = data.test.ids.index("test/a/own.dcm")
    np.testing.assert_array_equal(data.test.images[row], decode(own))


def test_padding_is_no_part_of_the_range(save, tmp_path):
    for split in ("train", "val", "test"):
        for i, label in enumerate("ab"):
            pixels = noise((40, 40), seed=i) // 8 + 1000
            pixels[:20] = 65_000
            made = make(pixels, bits=16, PixelPaddingValue=65_000)
            save(made, f"scans/{split}/{label}/{i}.dcm")
    data = load_dataset(f"dicom:{tmp_path / 'scans'}")
    assert data.window.limits == pytest.approx((1000, 1511), abs=2)
    assert (data.train.images[:, :20] == 0).all()


def test_dicom_in_folders_and_tables_is_read_as_by_its_own_source(save, tmp_path):
    lines = ["path,label,split"]
    for split in ("train", "val", "test"):
        for i, label in enumerate("ab"):
            name = f"{split}/{label}/1.2.840.{i}"
            save(make(noise(seed=i)), f"scans/{name}")
            lines.append(f"scans/{name},{label},{split}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    root = tmp_path / "scans"
    sources = [f"dicom:{root}", f"folder:{root}", f"table:{tmp_path / 't.csv'}"]
    by_dicom, by_folder, by_table = (load_dataset(source) for source in sources)
    assert by_dicom.train.ids == by_folder.train.ids
    for data in (by_folder, by_table):
        np.testing.assert_array_equal(data.train.images, by_dicom.train.images)


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
        np.testing.assert_array_equal(image, decode(root / name))
    assert NAME not in repr(data)
    assert NUMBER not in repr(data)
    assert data.train.groups is None
    assert data.skipped == {
        "train/ill/notes.txt": "no image by its name or content",
        "train/ill/picture.png": "no DICOM file",
    }


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


def make_float(pixels, **tags):
    """A parametric map: floating-point pixels, of which some are not known."""
    made = make(np.zeros(pixels.shape, np.uint16), **tags)
    del made.PixelData, made.BitsStored, made.HighBit, made.PixelRepresentation
    made.BitsAllocated = 8 * pixels.itemsize
    name = "FloatPixelData" if pixels.itemsize == 4 else "DoubleFloatPixelData"
    setattr(made, name, pixels.tobytes())
    return made


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_pixels_need_a_window(save, dtype):
    pixels = np.linspace(-1, 1, 48).reshape(6, 8).astype(dtype)
    pixels[0, 0] = np.nan
    path = save(make_float(pixels))
    assert pydicom.dcmread(path).pixel_array.dtype == dtype
    with path.open("rb") as file:
        mode = f"MONOCHROME2, {8 * pixels.itemsize} bits"
        assert read_header(file, path.name) == (8, 6, 1, mode, NO_SCALE)
    with pytest.raises(UnusableImage, match=r"range is not known; .* set data"):
        decode(path)
    shown = decode(path, window=parse_window("0.5,2"))[..., 0]
    # CENTER,WIDTH is DICOM's LINEAR: from -0.5 to 0.5.
    expected = np.rint(255 * np.clip(pixels + 0.5, 0, 1))
    assert shown[0, 0] == 0
    np.testing.assert_array_equal(shown.ravel()[1:], expected.ravel()[1:])
    named = make_float(pixels, WindowCenter=0, WindowWidth=2)
    named.VOILUTFunction = "LINEAR_EXACT"
    expected = np.rint(255 * (pixels + 1) / 2)
    found = decode(save(named))[..., 0]
    np.testing.assert_array_equal(found.ravel()[1:], expected.ravel()[1:])


def test_floating_point_files_get_the_range_of_training_images(tmp_path, save):
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for label, name in enumerate(("well", "ill")):
            pixels = rng.normal(label, 1, (40, 40)).astype(np.float32)
            save(make_float(pixels), f"maps/{split}/{name}/a.dcm")
    source = f"dicom:{tmp_path / 'maps'}"
    with pytest.raises(InputError, match=r"6 of 6 images cannot be used.*range is"):
        load_dataset(source)
    data = load_dataset(source, window="percentile:1,99")
    assert data.window.limits is not None
    low, high = data.window.limits
    assert -3 < low < high < 4
    assert len(np.unique(data.test.images)) > 200


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_colors_of_16_bits_keep_the_upper_8_of_those_stored(save, bits):
    pixels = noise((6, 8, 3), bits=bits).astype(np.uint16)
    found = decode(save(make(pixels, bits=bits, colors="RGB")))
    np.testing.assert_array_equal(found, pixels >> (bits - 8))
