"""Reads images in the formats that clinics use."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .dicom import MIDDLE, PREAMBLE, check_dicom, read_dicom, starts_as_dicom, stretched
from .errors import UserError

READING = 3  # increased when `read_image` returns different pixels, so that older cached features are not used
# The bytes at the end of a complete file.
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
TAIL = 1024  # bytes that are searched for the end: some programs append a few bytes
TIFF_PIECES = ((324, 273), (325, 279))  # the tags for the offsets and lengths of tiles or strips


def read_image(path: str | Path, frame: int = MIDDLE) -> Image.Image:
    """Read an image as 8-bit RGB, turned upright by its EXIF orientation.

    16-bit and floating-point greys are stretched from their smallest to their largest value; transparent pixels are put
    on black. DICOM files, recognised by the suffix .dcm or by their preamble, are read by `dassl.utils.dicom`; `frame`
    chooses one of several frames, counted from 1; 0 is the middle one.

    Raises:
        UserError: the file is missing, is not an image, or is corrupt.
    """
    path = Path(path)
    check_regular(path)
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF into memory and garbles it if its orientation is 5 to 8.
        with path.open("rb") as file:
            if is_dicom(path, file.read(PREAMBLE)):
                return Image.fromarray(read_dicom(path, frame)).convert("RGB")
            file.seek(0)
            with Image.open(file) as image:
                image.load()
                return to_rgb(image, f"The image {path}")
    except UnidentifiedImageError:
        raise UserError(f"The image {path} cannot be read (it is no image): replace it with an intact copy.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read ({error}): replace it with an intact copy.") from None


def check_image(path: str | Path, frame: int = MIDDLE) -> int:
    """Check that an image can be read, and return its number of frames (1 unless it is DICOM).

    Only the header is read, and whether the file is complete; wrong pixels in a complete file are found only by
    `read_image`. Floating-point images, and formats that do not record their length, are read in full.

    Raises:
        UserError: `read_image` would raise it.
    """
    path = Path(path)
    check_regular(path)
    try:
        with path.open("rb") as file:
            head = file.read(PREAMBLE)
            if is_dicom(path, head):
                return check_dicom(path, frame)
            file.seek(0)
            with Image.open(file) as image:
                complete = _is_complete(image, file, head)
        if not complete:
            read_image(path)  # some programs write no end marker, so only reading it in full decides
        return 1
    except UnidentifiedImageError:
        raise UserError(f"The image {path} cannot be read (it is no image): replace it with an intact copy.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read ({error}): replace it with an intact copy.") from None


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


def _is_complete(image: Any, file: BinaryIO, head: bytes) -> bool:
    """Whether an opened image's file is as long as its header says; False if it does not say."""
    size = file.seek(0, os.SEEK_END)
    if image.format in ENDS:
        file.seek(max(0, size - TAIL))
        return ENDS[image.format] in file.read()
    if image.format == "TIFF" and image.mode != "F":
        places = zip(*(image.tag_v2.get(new) or image.tag_v2.get(old) or () for new, old in TIFF_PIECES), strict=False)
        return 0 < max((start + length for start, length in places), default=0) <= size
    if image.format == "WEBP":
        return int.from_bytes(head[4:8], "little") + 8 <= size
    return image.format == "BMP" and 54 < int.from_bytes(head[2:6], "little") <= size


def to_rgb(image: Image.Image, name: str = "The image") -> Image.Image:
    """Convert an image in memory to what `read_image` returns for a file; errors call it `name`."""
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise UserError(f"{name} has values that are NaN or infinite: export it without them.")
        return Image.fromarray(stretched(values)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a corrupt EXIF block can raise nearly anything; the image itself may be fine
        return image
