"""DICOM: the right pixels of every kind that pydicom ships, or one sentence on why there are none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.sequence import Sequence
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    generate_uid,
)

from ogkd.core import UserError
from ogkd.core.images import load_image, read_image

pytestmark = pytest.mark.filterwarnings("ignore")  # pydicom's, on the files that are wrong on purpose
SHIPPED = sorted(path for path in (Path(pydicom.__file__).parent / "data/test_files").rglob("*") if path.is_file())
# The files of pydicom 3.0 without which the walk would show little.
READ = [
    *("CT_small.dcm", "693_J2KI.dcm", "JPEG2000.dcm", "GDCMJ2K_TextGBR.dcm", "MR_small_RLE.dcm", "image_dfl.dcm"),
    *("MR_small_jpeg_ls_lossless.dcm", "SC_rgb_jls_lossy_line.dcm", "MR_small_bigendian.dcm", "rtdose.dcm", "6154"),
    *("SC_rgb_rle_16bit.dcm", "SC_rgb_rle_32bit_2frame.dcm", "SC_ybr_full_422_uncompressed.dcm"),
    *("examples_palette.dcm", "examples_ybr_color.dcm"),
]


def shipped(name: str) -> Path:
    """A file within pydicom's package; none is fetched."""
    return next(path for path in SHIPPED if path.name == name)


def made(path: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **more: object) -> Path:
    """Write an uncompressed file of pixels (frames, rows, columns, samples), (rows, columns, samples) or (rows,
    columns), whose unsigned or signed values take all their bits unless `more` says otherwise."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.file_meta.TransferSyntaxUID = syntax
    samples = pixels.shape[-1] if pixels.shape[-1] == 3 else 1
    data.Rows, data.Columns = pixels.shape[-3:-1] if samples == 3 else pixels.shape[-2:]
    data.SamplesPerPixel, data.PhotometricInterpretation = samples, "RGB" if samples == 3 else "MONOCHROME2"
    if samples == 3:
        data.PlanarConfiguration = 0
    if pixels.ndim == 3 + (samples == 3):
        data.NumberOfFrames = len(pixels)
    if pixels.dtype.kind == "f":
        data.BitsAllocated, data.FloatPixelData = 32, pixels.tobytes()
    else:
        data.BitsAllocated = data.BitsStored = pixels.dtype.itemsize * 8
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
        data.PixelData = pixels.tobytes()
    for name, value in more.items():
        setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)
    return path


def array(path: Path, frame: int = 0) -> np.ndarray:
    image = read_image(path, frame)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_every_file_that_pydicom_ships_is_an_image_or_one_sentence(path):
    try:
        image = read_image(path)
    except UserError as error:
        sentence = str(error)
        assert str(path) in sentence and sentence.endswith(".") and "\n" not in sentence
        assert path.name not in READ, sentence
    else:
        assert image.mode == "RGB" and min(image.size) > 0
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert image.size == (header.Columns, header.Rows)


@pytest.mark.parametrize("name", READ[:6])
def test_a_truncated_file_is_found_by_the_check(tmp_path, name):
    content = shipped(name).read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: int(len(content) * 0.9)])
    with pytest.raises(UserError, match=r"a\.dcm .*(cannot be read|too early|no pixels)"):
        load_image(tmp_path / "a.dcm")


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "MR_small_RLE.dcm", "examples_ybr_color.dcm"])
def test_a_truncated_stream_in_a_whole_file_is_found_by_the_check(tmp_path, name):
    data = pydicom.dcmread(shipped(name))
    data.NumberOfFrames, stream = 1, get_frame(data.PixelData, 0, number_of_frames=int(data.get("NumberOfFrames") or 1))
    data.PixelData = encapsulate([stream[: int(len(stream) * 0.98)]])
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a\.dcm cannot be read .*intact copy"):
        load_image(tmp_path / "a.dcm")


def test_a_decoder_that_panics_is_one_sentence(tmp_path):
    """A panic in Rust is no Exception."""
    data, run = pydicom.dcmread(shipped("MR_small_RLE.dcm")), bytes([129, 0])  # of 128 zeros
    number_and_starts = np.array([2, 64, 128, *[0] * 13], "<u4").tobytes()
    one_value_too_many = bytes([0, 1])
    data.PixelData = encapsulate([number_and_starts + run * 32 + run * 31 + one_value_too_many + run])
    data.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a\.dcm cannot be read .*intact copy"):
        load_image(tmp_path / "a.dcm")


def test_sixteen_bit_colour_is_scaled_and_not_cut():
    sixteen, eight = (array(shipped(f"SC_rgb_rle{bits}.dcm")) for bits in ("_16bit", ""))
    assert (sixteen == eight).all()  # pydicom made the one of the other by doubling each byte
    assert (array(shipped("SC_rgb_rle_32bit.dcm")) == eight).all()


@given(value=st.integers(0, 4095))
def test_twelve_bit_colour_is_a_share_of_its_largest_value(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("rgb") / "a.dcm"
    made(path, np.full((2, 2, 3), value, np.uint16), BitsStored=12, HighBit=11)
    assert array(path) == pytest.approx(value / 4095 * 255, abs=0.5)


def test_ybr_becomes_rgb():
    jpeg, plain = array(shipped("SC_ybr_full_422_uncompressed.dcm")), array(shipped("SC_rgb_rle.dcm"))
    assert jpeg.shape == plain.shape
    assert np.median(abs(jpeg - plain)) <= 3  # the same test picture, its colours of half the resolution


@pytest.mark.parametrize("frame", range(6))
def test_a_frame_of_a_colour_cine_is_chosen(tmp_path, frame):
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full((5, 4, 6, 3), 50, np.uint8)
    path = made(tmp_path / "cine.dcm", frames)
    assert (array(path, frame) == 50 * (frame - 1 if frame else 2)).all()
    assert load_image(path, frame).frames == 5


def windowed(tmp_path: Path, values: np.ndarray, **more: object) -> np.ndarray:
    return array(made(tmp_path / "w.dcm", values, **more))[..., 0]


def test_greys_without_a_window_are_stretched_and_monochrome1_inverted(tmp_path):
    values = np.array([[-1000, 0], [500, 1000]], np.int16)
    expected = (values + 1000) / 2000 * 255
    assert windowed(tmp_path, values) == pytest.approx(expected, abs=0.5)
    inverted = windowed(tmp_path, values, PhotometricInterpretation="MONOCHROME1")
    assert inverted == pytest.approx(255 - expected, abs=0.5)


def test_an_enhanced_file_has_windows_of_its_frames(tmp_path):
    def group(centre: float) -> Dataset:
        window, found = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = centre, 100, "LINEAR_EXACT"
        found.FrameVOILUTSequence = Sequence([window])
        return found

    frames = np.full((2, 4, 5), 75, np.uint16)
    groups = Sequence([group(50), group(100)])
    path = made(tmp_path / "e.dcm", frames, PerFrameFunctionalGroupsSequence=groups)
    assert array(path, 1) == pytest.approx(0.75 * 255, abs=0.5)
    assert array(path, 2) == pytest.approx(0.25 * 255, abs=0.5)


def test_floating_point_pixels_are_read_unless_one_is_no_number(tmp_path):
    values = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    assert windowed(tmp_path, values) == pytest.approx(values * 255, abs=0.5)
    for bad in (np.nan, np.inf):
        values[0, 0] = bad
        path = made(tmp_path / "bad.dcm", values)
        with pytest.raises(UserError, match=r"bad\.dcm has values that are NaN or infinite"):
            read_image(path)


def test_a_missing_decoder_is_named_with_its_command():
    with pytest.raises(UserError, match=rf"{re.escape(JPEGLosslessSV1.name)}.*: pip install python-gdcm\.$"):
        read_image(shipped("SC_rgb_jpeg_gdcm.dcm"))
    with pytest.raises(UserError, match=r"JPEG Extended.*pip install pylibjpeg pylibjpeg-libjpeg \(.*GPL\)\.$"):
        read_image(shipped("JPGExtended.dcm"))


def test_files_without_a_suffix_or_a_preamble_are_read(tmp_path):
    path = made(tmp_path / "a.dcm", np.arange(16, dtype=np.uint8).reshape(4, 4))
    expected = array(path)
    content = path.read_bytes()
    (tmp_path / "IM0001").write_bytes(content)
    assert (array(tmp_path / "IM0001") == expected).all()
    (tmp_path / "old.dcm").write_bytes(content[132:])
    assert (array(tmp_path / "old.dcm") == expected).all()


def test_the_preamble_alone_makes_no_image(tmp_path):
    (tmp_path / "a").write_bytes(bytes(128) + b"DICM")
    with pytest.raises(UserError, match="DICOM"):
        read_image(tmp_path / "a")
    Image.new("L", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "b.dcm").write_bytes((tmp_path / "b.png").read_bytes())
    with pytest.raises(UserError, match="DICOM"):
        read_image(tmp_path / "b.dcm")


# Contrast: what decides which values are black and white

ANATOMY = np.linspace(1000, 2000, 64 * 64).reshape(64, 64)
WINDOWS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("dtype", "padding", "more"),
    [
        (np.uint16, 0, {"PixelPaddingValue": 0}),
        (np.uint16, 65535, {"PixelPaddingValue": 65535}),
        (np.int16, -2000, {"PixelPaddingValue": -2000}),
        (np.int16, -32768, {"PixelPaddingValue": -32768, "PixelPaddingRangeLimit": -20000}),
        (np.int16, -25000, {"PixelPaddingValue": -20000, "PixelPaddingRangeLimit": -32768}),
        (np.float32, -1e30, {"FloatPixelPaddingValue": -1e30}),
    ],
)
def test_padding_is_black_and_does_not_decide_the_contrast(tmp_path, kind, dtype, padding, more):
    values = ANATOMY.astype(dtype)
    values[:20] = padding
    read = windowed(tmp_path, values, PhotometricInterpretation=kind, **more)
    inside = values[20:].astype(float)
    expected = (inside - inside.min()) / (inside.max() - inside.min()) * 255
    assert (read[:20] == 0).all()
    assert read[20:] == pytest.approx(255 - expected if kind == "MONOCHROME1" else expected, abs=0.5)


def test_padding_given_as_unsigned_is_that_of_signed_pixels(tmp_path):
    values = ANATOMY.astype(np.int16)
    values[:20] = -2000
    path = made(tmp_path / "p.dcm", values)
    data = pydicom.dcmread(path)
    data.add_new("PixelPaddingValue", "US", 65536 - 2000)
    data.save_as(path)
    assert array(path)[20:].min() == 0 and array(path)[20:].max() == 255


@given(
    centre=st.floats(-500, 500).map(lambda number: round(number, 2)),
    width=st.floats(0.05, 2000).map(lambda number: round(number, 2)),
    function=st.sampled_from(WINDOWS),
    slope=st.sampled_from([1.0, 2.5, -1.0, 0.01]),
    floating=st.booleans(),
)
def test_windows_follow_the_standard(tmp_path_factory, centre, width, function, slope, floating):
    values = np.linspace(-700, 700, 32 * 32).reshape(32, 32).astype(np.float32 if floating else np.int16)
    more = {"WindowCenter": centre, "WindowWidth": width, "RescaleSlope": slope, "RescaleIntercept": 3}
    read = windowed(tmp_path_factory.mktemp("w"), values, VOILUTFunction=function, **more)
    x = values.astype(float) * slope + 3
    if function == "SIGMOID":  # PS3.3 C.11.2.1.3.1
        expected = 255 / (1 + np.exp((-4 * (x - centre) / width).clip(-700, 700)))
    elif function == "LINEAR" and width >= 1:  # C.11.2.1.2.1
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        inner = ((x - (centre - 0.5)) / max(width - 1, 1e-300) + 0.5) * 255
        expected = np.where(x <= low, 0, np.where(x > high, 255, inner))
    else:  # C.11.2.1.3.2
        expected = ((x - centre) / width + 0.5).clip(0, 1) * 255
    assert read == pytest.approx(expected, abs=0.51)


@pytest.mark.parametrize("width", [0, -5, None, ""])
def test_a_window_of_no_width_is_none(tmp_path, width):
    read = windowed(tmp_path, ANATOMY.astype(np.uint16), WindowCenter=40, WindowWidth=width)
    assert read.min() == 0 and read.max() == 255 and len(np.unique(read)) > 200


def test_the_first_window_with_a_width_is_used(tmp_path):
    values = ANATOMY.astype(np.uint16)
    read = windowed(tmp_path, values, WindowCenter=[0, 1500.5, 7], WindowWidth=[0, 501, 9])
    assert read == pytest.approx(((values - 1250.0) / 500).clip(0, 1) * 255, abs=0.5)


# Tables


def palette(colours: np.ndarray, bits: int, dtype: str) -> dict[str, object]:
    tables: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, values in zip(("Red", "Green", "Blue"), colours.T, strict=True):
        raw = values.astype(dtype).tobytes()
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [len(colours) % 65536, 0, bits]
        tables[f"{name}PaletteColorLookupTableData"] = raw + bytes(len(raw) % 2)
    return tables


@pytest.mark.parametrize("entries", [3, 256])
@pytest.mark.parametrize(("bits", "words", "scale"), [(8, "u1", 1), (8, "<u2", 1), (16, "<u2", 1), (16, "<u2", 257)])
@pytest.mark.parametrize("swapped", [False, True])
def test_palettes_of_bytes_and_words_give_their_colours(tmp_path, entries, bits, words, scale, swapped):
    colours = np.random.default_rng(0).integers(0, 256, (entries, 3))
    colours[0] = 0, 128, 255
    indices = (np.arange(256) % entries).astype(np.uint8).reshape(16, 16)
    tables, syntax = palette(colours * scale, bits, words), ExplicitVRLittleEndian
    if swapped:
        syntax = ExplicitVRBigEndian
        for name in (name for name in tables if name.endswith("Data")):  # two bytes make a word
            tables[name] = np.frombuffer(tables[name], "<u2").byteswap().tobytes()
    path = made(tmp_path / "p.dcm", indices, syntax, **tables)
    assert (array(path) == colours[indices]).all()


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("where", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize(("bits", "stored"), [(8, "words"), (8, "bytes"), (12, "words"), (16, "words")])
def test_tables_of_any_depth_are_looked_up(tmp_path, where, bits, stored, implicit):
    count, first = 1024, 100
    entries = np.linspace(0, 2**bits - 1, count).round().astype(np.uint16)
    table = Dataset()
    table.LUTDescriptor = [count, first, bits]
    table.add_new("LUTData", "OW", entries.astype("u1" if stored == "bytes" else "<u2").tobytes())
    if where == "ModalityLUTSequence":
        table.ModalityLUTType = "US"
    values = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 1300
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    path = made(tmp_path / "t.dcm", values, syntax, **{where: Sequence([table])})
    expected = entries[(values.astype(int) - first).clip(0, count - 1)] / (2**bits - 1) * 255
    assert array(path)[..., 0] == pytest.approx(expected, abs=0.5)


@pytest.mark.parametrize("vr", ["SS", "US"])
def test_a_table_may_begin_below_zero(tmp_path, vr):
    table = Dataset()
    table.add_new("LUTData", "US", [0, 85, 170, 255])
    table.add_new("LUTDescriptor", vr, [4, -2 if vr == "SS" else 65536 - 2, 8])
    values = np.array([[-3, -2], [-1, 0], [1, 2]], np.int16)
    read = windowed(tmp_path, values, VOILUTSequence=Sequence([table]))
    assert (read == [[0, 0], [85, 170], [255, 255]]).all()


def test_twelve_bits_in_sixteen_bit_colour_are_not_black(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (8, 8, 3)).astype(np.uint16)
    values[0, 0] = 4095
    assert array(made(tmp_path / "c.dcm", values)) == pytest.approx(values / 4095 * 255, abs=0.5)
