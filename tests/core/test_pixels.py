"""TIFF, PNG, WebP, GIF and JPEG files of every depth: the right pixels, or one sentence with the mend."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError
from ogkd.core.images import load_image, read_image
from ogkd.core.opening import open_images
from ogkd.core.rgb import to_rgb
from ogkd.data.findings import sentences
from ogkd.data.inspection import inspect

FORMATS = {"u": 1, "i": 2, "f": 3}


def write_tiff(
    path: Path,
    pages: list[np.ndarray],
    photometric: int = 1,
    order: str = "<",
    deflate: bool = False,
    **tags: list[int],
) -> Path:
    """Write pages (rows, columns) or (rows, columns, samples) of one strip each; `tags` (t258=[12]) replace others."""
    out = io.BytesIO()
    out.write((b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 0))
    link = 4
    for page in pages:
        samples = page.shape[2] if page.ndim == 3 else 1
        strip = page.astype(page.dtype.newbyteorder(order)).tobytes()
        strip = zlib.compress(strip) if deflate else strip
        fields = {
            256: [page.shape[1]], 257: [page.shape[0]], 258: [page.itemsize * 8] * samples, 259: [8 if deflate else 1],
            262: [photometric], 273: [out.tell()], 277: [samples], 278: [page.shape[0]], 279: [len(strip)],
            339: [FORMATS[page.dtype.kind]] * samples,
        }  # fmt: skip
        fields |= {int(name[1:]): values for name, values in tags.items()}
        out.write(strip + bytes(len(strip) % 2))
        places = {}
        for tag, values in fields.items():
            raw = struct.pack(f"{order}{len(values)}{'I' if max(values) > 65535 else 'H'}", *values)
            places[tag] = raw.ljust(4, b"\0")
            if len(raw) > 4:
                places[tag] = struct.pack(f"{order}I", out.tell())
                out.write(raw)
        start = out.tell()
        out.seek(link)
        out.write(struct.pack(f"{order}I", start))
        out.seek(start)
        out.write(struct.pack(f"{order}H", len(fields)))
        for tag in sorted(fields):
            kind = 4 if max(fields[tag]) > 65535 else 3
            out.write(struct.pack(f"{order}HHI", tag, kind, len(fields[tag])) + places[tag])
        link = out.tell()
        out.write(bytes(4))
    path.write_bytes(out.getvalue())
    return path


def write_png(path: Path, samples: np.ndarray) -> Path:
    """Write 16-bit greys (rows, columns, 1) with alpha (2), RGB (3) or with alpha (4)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows, columns, number = samples.shape
    header = struct.pack(">IIBBBBB", columns, rows, 16, {1: 0, 2: 4, 3: 2, 4: 6}[number], 0, 0, 0)
    content = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")
    )
    return path


def pixels(path: Path, frame: int = 0) -> np.ndarray:
    image = read_image(path, frame)
    assert image.mode == "RGB"
    with Image.open(path) as opened:  # as a caller of the Python interface has it
        if getattr(opened, "n_frames", 1) == 1:
            assert to_rgb(opened).tobytes() == image.tobytes()
    return np.asarray(image).astype(int)


def stretch(values: np.ndarray) -> np.ndarray:
    values = values.astype(float)
    return (values - values.min()) / (values.max() - values.min()) * 255


# Greys


@given(
    dtype=st.sampled_from(["u1", "u2", "u4", "i1", "i2", "i4", "f4"]),
    white_is_zero=st.booleans(),
    order=st.sampled_from("<>"),
    deflate=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_grey_tiff_is_stretched_whatever_its_type_or_is_refused(
    tmp_path_factory, dtype, white_is_zero, order, deflate, seed
):
    kind = np.dtype(dtype)
    ends = (-1e6, 1e6) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = np.random.default_rng(seed).uniform(*ends, (8, 9)).astype(kind)
    values.flat[:2] = ends
    path = write_tiff(tmp_path_factory.mktemp("t") / "a.tif", [values], 0 if white_is_zero else 1, order, deflate)
    try:
        read = pixels(path)[..., 0]
    except UserError as error:
        assert "TIFF" in str(error) and "save it with interleaved" in str(error)
        assert (order == ">" and white_is_zero) or dtype == "u4" or (white_is_zero and dtype not in ("u1", "u2"))
        return
    expected = stretch(values)
    assert read == pytest.approx(255 - expected if white_is_zero else expected, abs=0.5)


@pytest.mark.parametrize("value", [0, 30000, 65535])
def test_a_hot_pixel_or_a_marker_leaves_the_contrast_of_a_png(tmp_path, value):
    values = np.linspace(1000, 2000, 64 * 64).astype(np.uint16).reshape(64, 64, 1)
    values[0, :8] = value
    read = pixels(write_png(tmp_path / "a.png", values))[1:]
    assert np.ptp(read) > (120 if value == 0 else 240)


# 16-bit colours


@given(
    bits=st.sampled_from([8, 10, 12, 14, 16]),
    number=st.sampled_from([3, 4]),
    kind=st.sampled_from(["png", "<", ">", "< deflate", "> deflate"]),
    seed=st.integers(0, 9),
)
def test_colours_of_any_depth_are_a_share_of_their_largest_value(tmp_path_factory, bits, number, kind, seed):
    values = np.random.default_rng(seed).integers(0, 2**bits, (7, 5, number)).astype(np.uint16)
    values[..., 3:] = 2**bits - 1
    values[0, 0] = 2**bits - 1
    folder = tmp_path_factory.mktemp("c")
    if kind == "png":
        path = write_png(folder / "a.png", values)
    else:
        extra = {"t338": [2]} if number == 4 else {}
        path = write_tiff(folder / "a.tif", [values], 2, kind[0], "deflate" in kind, **extra)
    assert pixels(path) == pytest.approx(values[..., :3] / (2**bits - 1) * 255, abs=1 if bits == 16 else 0.5)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_grey_with_alpha_is_stretched_like_grey(tmp_path, bits):
    values = np.linspace(0, 2**bits - 1, 64).astype(np.uint16).reshape(8, 8, 1)
    grey = pixels(write_png(tmp_path / "a.png", values))
    opaque = np.concatenate([values, np.full_like(values, 2**bits - 1)], -1)
    assert (pixels(write_png(tmp_path / "b.png", opaque)) == grey).all()
    opaque[:4, :, 1] = 0
    half = pixels(write_png(tmp_path / "c.png", opaque))
    assert (half[:4] == 0).all() and np.ptp(half[4:]) == 255


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_colour_map_of_any_depth_gives_its_colours(tmp_path, bits):
    colours = np.random.default_rng(0).integers(0, 2**bits, (3, 256))
    colours[0, 0] = 2**bits - 1
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    read = pixels(write_tiff(tmp_path / "a.tif", [indices], 3, t320=colours.reshape(-1).tolist()))
    assert read == pytest.approx(colours.T[indices] / (2**bits - 1) * 255, abs=1 if bits == 16 else 0.5)


@pytest.mark.parametrize("samples", ["planes", "float", "five"])
def test_a_kind_that_cannot_be_read_is_refused_with_the_mend(tmp_path, samples):
    values = np.random.default_rng(0).integers(0, 255, (8, 8, 5)).astype(np.uint16)
    path = tmp_path / "a.tif"
    if samples == "planes":
        size = 8 * 8 * 2
        write_tiff(path, [values[..., :3]], 2, t284=[2], t273=[8, 8 + size, 8 + 2 * size], t279=[size] * 3)
    elif samples == "float":
        write_tiff(path, [values[..., :3].astype(np.float32)], 2)
    else:
        write_tiff(path, [values], 2)
    with pytest.raises(UserError, match=r"a\.tif .*save it with interleaved"):
        read_image(path)


# Frames and pages


def several(path: Path, shades: list[int]) -> Path:
    images = [Image.new("RGB", (8, 8), (shade, shade, shade)) for shade in shades]
    lossless = {"lossless": True} if path.suffix == ".webp" else {}
    images[0].save(path, save_all=True, append_images=images[1:], **lossless)
    return path


@pytest.mark.parametrize("kind", ["tif", "webp", "png", "gif"])
def test_a_frame_is_chosen_or_refused(tmp_path, kind):
    path = several(tmp_path / f"a.{kind}", [10, 60, 110, 160, 210])
    assert [pixels(path, frame).max() for frame in range(6)] == [110, 10, 60, 110, 160, 210]
    assert load_image(path).frames == 5
    with pytest.raises(UserError, match=r"has 5 frames and no frame 6: lower INPUT\.FRAME"):
        read_image(path, 6)


def test_the_preview_of_a_camera_and_the_levels_of_a_pyramid_are_no_frames(tmp_path):
    whole, small = Image.new("RGB", (64, 32), (200, 0, 0)), Image.new("RGB", (32, 16), (0, 200, 0))
    whole.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[small])
    write_tiff(
        tmp_path / "b.tif", [np.asarray(image.reduce(n)) for image, n in ((whole, 1), (small, 1), (small, 2))], 2
    )
    for name in ("a.jpg", "b.tif"):
        assert load_image(tmp_path / name).frames == 1
        assert pixels(tmp_path / name)[0, 0, 0] > 190


# Too large, blank


@pytest.mark.parametrize("kind", ["png", "tif", "bmp"])
def test_an_image_beyond_the_limit_is_too_large_and_not_corrupt(tmp_path, monkeypatch, kind):
    Image.new("RGB", (64, 64), "red").save(tmp_path / f"a.{kind}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(UserError, match=r"too large .*2,000 pixels.*tiles"):
        read_image(tmp_path / f"a.{kind}")


@pytest.mark.parametrize("shade", [0, 77, 255])
def test_a_blank_image_is_a_fault_and_no_duplicate(tmp_path, shade):
    for name in ("cyst", "nodule"):
        (tmp_path / name).mkdir()
        for number in range(3):
            noise = np.random.default_rng([ord(name[0]), number]).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / name / f"{number}.png")
        Image.new("L", (8, 8), shade).save(tmp_path / name / "blank.png")
    faults = sentences(inspect(tmp_path).faults)
    assert [sentence.split(" ")[2] for sentence in faults if "is blank" in sentence] == [
        "cyst/blank.png",
        "nodule/blank.png",
    ]
    assert not any("two classes" in sentence for sentence in faults)


def test_pages_that_are_not_read_are_mentioned(tmp_path):
    (tmp_path / "cyst").mkdir()
    several(tmp_path / "cyst" / "z.tif", [10, 20])
    assert any("several frames" in line and "cyst/z.tif (2)" in line for line in inspect(tmp_path).warnings)
    (seen,) = open_images([str(tmp_path / "cyst/z.tif")])
    assert (seen.frames, seen.blank, seen.mask) == (2, True, False)
