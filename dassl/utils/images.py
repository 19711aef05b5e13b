"""Reads images in the formats that clinics use."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .dicom import MIDDLE, PREAMBLE, frame_index, read_dicom, starts_as_dicom
from .errors import UserError
from .levels import stretched, upper_bits

READING = 4  # increased when `read_image` returns different pixels, so that older cached features are not used
FLAT = 2  # levels by which the pixels of a blank image may differ
SEVERAL = ("TIFF", "GIF", "WEBP", "PNG")  # formats with frames; the second picture of a JPEG (MPO) is a preview
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags of TIFF 6.0.
SUBFILE, BITS, PHOTOMETRIC, PLANAR, COLOUR_MAP, SAMPLE_FORMAT = 254, 258, 262, 284, 320, 339
COPY = 1 | 4  # bits of SUBFILE: a reduced copy of another page, a mask of it
UNSIGNED, SIGNED = 1, 2  # values of SAMPLE_FORMAT
# Pillow unpacks the upper byte of 16-bit samples. In the opposite byte order, the same bytes give the lower one; grey
# with alpha, which lacks one, is unpacked as four bytes.
LOWER = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B" if np.little_endian else "L"))
} | {"LA;16B": "RGBA"}
# libtiff returns native numbers, but Pillow unpacks these in the order of the file.
NATIVE = {"I;16BS": "I;16S", "I;32BS": "I;32S", "F;32BF": "F;32F"} if np.little_endian else {}


class Checked(NamedTuple):
    """How many frames an image file holds, and whether the one that is read is blank."""

    frames: int
    blank: bool


def read_image(path: str | Path, frame: int = MIDDLE) -> Image.Image:
    """Read an image as 8-bit RGB, turned upright by its EXIF orientation.

    16-bit and floating-point greys are stretched (`dassl.utils.levels.stretched`); 16-bit colours are scaled by the
    bits that they use; transparent pixels are put on black. DICOM files, recognised by the suffix .dcm or by their
    preamble, are read by `dassl.utils.dicom`. `frame` chooses one of several frames or pages, counted from 1; 0 is the
    middle one.

    Raises:
        UserError: the file is missing, is not an image, is corrupt or too large, or has no such frame.
    """
    return load_image(path, frame)[0]


def check_image(path: str | Path, frame: int = MIDDLE) -> Checked:
    """Read an image in full and say what it holds.

    Raises:
        UserError: `read_image` would raise it.
    """
    image, frames = load_image(path, frame)
    return Checked(frames, is_blank(image))


def is_blank(image: Image.Image) -> bool:
    """Whether all pixels of an RGB image have nearly the same colour."""
    return all(high - low <= FLAT for low, high in cast(tuple, image.getextrema()))


def load_image(path: str | Path, frame: int = MIDDLE) -> tuple[Image.Image, int]:
    """Return what `read_image` returns, and the number of frames in the file."""
    path = Path(path)
    check_regular(path)
    name, head = f"The image {path}", b""
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF into memory and garbles it if its orientation is 5 to 8.
        with path.open("rb") as file:
            head = file.read(PREAMBLE)
            if is_dicom(path, head):
                pixels, frames = read_dicom(path, frame)
                return Image.fromarray(pixels).convert("RGB"), frames
            file.seek(0)
            with Image.open(file) as image:
                pages = _pages(image)
                image.seek(pages[frame_index(name, len(pages), frame)])
                return to_rgb(image, name), len(pages)
    except UserError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise UserError(
            f"{name} is too large to be read (more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels): reduce it to a "
            "few thousand pixels a side, or cut it into tiles."
        ) from None
    except UnidentifiedImageError:
        what, mend = "it is no image", "replace it with an intact copy"
        if head.startswith(TIFF_STARTS):
            what = "it is a TIFF that is corrupt or of an unsupported kind"
            mend += ", or save it with interleaved samples of 8 or 16 bits, greyscale or RGB"
        raise UserError(f"{name} cannot be read ({what}): {mend}.") from None
    except Exception as error:  # a corrupt file can make a library raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{name} cannot be read ({reason}): replace it with an intact copy.") from None


def _pages(image: Any) -> list[int]:
    """Return the indices of an open file's frames or pages, without masks and reduced copies of the first."""
    number = getattr(image, "n_frames", 1) if image.format in SEVERAL else 1
    if image.format != "TIFF" or number == 1:
        return list(range(number))
    (width, height), pages = image.size, [0]
    for page in range(1, number):
        image.seek(page)
        reduced = image.width < width and abs(image.width * height - image.height * width) <= max(width, height)
        if not (reduced or image.tag_v2.get(SUBFILE, 0) & COPY):
            pages.append(page)
    return pages


def is_dicom(path: Path, head: bytes) -> bool:
    """Whether a file is DICOM, judged by its suffix or its first 132 bytes."""
    return path.suffix.lower() == ".dcm" or starts_as_dicom(head)


def has_preamble(path: Path) -> bool:
    """Whether a file begins with a DICOM preamble; False if it cannot be opened or reading it would block."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return starts_as_dicom(file.read(PREAMBLE))
    except (UserError, OSError):
        return False


def check_regular(path: Path) -> os.stat_result:
    """Return the file system's status of a file.

    Raises:
        UserError: it is missing, a folder, or a pipe, socket or device, on which reading could block.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise UserError(f"The image {path} is missing.") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise UserError(f"The image {path} is {kind}, not a file: remove it.")
    return found


def to_rgb(image: Image.Image, name: str = "The image") -> Image.Image:
    """Convert an image in memory to what `read_image` returns for a file; errors call it `name`."""
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    bits, samples = (tags.get(tag, (1,))[0] for tag in (BITS, SAMPLE_FORMAT))
    if tags.get(PLANAR) == 2 and bits > 8 and len(tags.get(BITS, ())) > 1:
        raise UserError(f"{name} has more than 8 bits in separate planes: save it with interleaved samples.")
    if any(tile[0] == "libtiff" for tile in getattr(image, "tile", ())):
        _repack(image, NATIVE)
    colours = _sixteen_bits(image)
    image = _upright(image)
    if colours is not None:
        image = _in_eight_bits(colours)
    elif image.mode in ("I", "F") or image.mode.startswith("I;16") or (image.mode == "L" and samples == SIGNED):
        values = np.asarray(image)
        if not np.isfinite(values).all():
            raise UserError(f"{name} has values that are NaN or infinite: export it without them.")
        if image.mode == "L":
            values = values.view(np.int8)
        elif image.mode == "I" and tags and samples == UNSIGNED:
            values = values.view(np.uint32)
        levels = stretched(values)
        # Pillow inverts only 8 bits itself.
        return Image.fromarray(255 - levels if tags.get(PHOTOMETRIC) == 0 and bits > 8 else levels).convert("RGB")
    elif image.mode in ("P", "PA") and COLOUR_MAP in tags:  # Pillow takes its entries for 16 bits
        entries = np.array(tags[COLOUR_MAP]).reshape(3, -1).T
        image.putpalette(upper_bits(entries).tobytes())
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _packing(tile: Any) -> str:
    """Return the packing of an unread tile's samples."""
    options = tile[3]
    return str(options[0] if isinstance(options, tuple) and options else options)


def _repack(image: Any, packings: dict[str, str]) -> None:
    """Let an opened file's samples be unpacked in another way."""
    for number, tile in enumerate(image.tile):
        packing = packings.get(_packing(tile), _packing(tile))
        options = (packing, *tile[3][1:]) if isinstance(tile[3], tuple) else packing
        image.tile[number] = getattr(tile, "_make", tuple)((*tile[:3], options))


def _sixteen_bits(image: Any) -> np.ndarray | None:
    """Return the samples (rows, columns, 2 to 4) of an opened file with 16-bit colours or grey with alpha; None for
    other images and those already loaded."""
    packings = {_packing(tile) for tile in getattr(image, "tile", ())}
    if not packings or not packings <= LOWER.keys():
        return None
    place = image.fp.tell()
    image.fp.seek(0)
    other: Any = Image.open(io.BytesIO(image.fp.read()))
    image.fp.seek(place)
    other.seek(image.tell())
    _repack(other, LOWER)
    upper, lower = (np.asarray(_upright(one)).astype(np.uint16) for one in (image, other))
    return lower[..., ::2] << 8 | lower[..., 1::2] if packings == {"LA;16B"} else upper << 8 | lower


def _in_eight_bits(samples: np.ndarray) -> Image.Image:
    """Stretch greys with alpha, or scale colours by the bits that they use."""
    if samples.shape[-1] == 2:
        colours = stretched(samples[..., :1], samples[..., 1:] > 0)
    else:
        colours = upper_bits(samples[..., :3])
    alpha = samples[..., colours.shape[-1] :]
    return Image.fromarray(np.concatenate([colours, upper_bits(alpha)], -1))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a corrupt EXIF block can raise nearly anything; the image itself may be fine
        return image
