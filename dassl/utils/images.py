"""Reading images of the kinds that clinics have."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .dicom import MIDDLE, PREAMBLE, check_dicom, read_dicom, starts_as_dicom, stretched
from .errors import UserError

READING = 3  # goes up when `read_image` gives other pixels, so that features of the former ones are not used
# What stands at the end of a complete file.
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
TAIL = 1024  # bytes among which the end is looked for: some programs append a few of their own
TIFF_PIECES = ((324, 273), (325, 279))  # the tags of where tiles or strips begin, and of their lengths


def read_image(path: str | Path, frame: int = MIDDLE) -> Image.Image:
    """Read an image as 8-bit RGB, upright: turned as its EXIF orientation says.

    16-bit and floating-point greys are stretched from their least to their largest value; transparent pixels lie on
    black. DICOM files, known by their suffix .dcm or by their preamble, are read as `dassl.utils.dicom` says; `frame`
    chooses among several frames, counted from 1, 0 being the middle one.

    Raises:
        UserError: the file is missing, is no image, or is damaged.
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
    """The number of frames of an image, 1 but for DICOM, having looked for what makes it unreadable.

    What is read are the header and whether the file is complete; wrong pixels in a complete file are found by
    `read_image` alone. Floating-point images, and kinds that do not tell their length, are read as a whole.

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
            read_image(path)  # the whole of it decides: some programs write no end, and their images can be read
        return 1
    except UnidentifiedImageError:
        raise UserError(f"The image {path} cannot be read (it is no image): replace it with an intact copy.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read ({error}): replace it with an intact copy.") from None


def is_dicom(path: Path, head: bytes) -> bool:
    """Whether a file is DICOM, by its suffix or by its first 132 bytes."""
    return path.suffix.lower() == ".dcm" or starts_as_dicom(head)


def has_preamble(path: Path) -> bool:
    """Whether a file begins as DICOM does; False for what cannot be opened or would keep its reader waiting."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            return starts_as_dicom(file.read(PREAMBLE))
    except (UserError, OSError):
        return False


def check_regular(path: Path) -> os.stat_result:
    """What the file system says of a file.

    Raises:
        UserError: it is missing, or is a folder, or a pipe, socket or device, which would keep its reader waiting.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise UserError(f"The image {path} is missing.") from None
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, socket or device"
        raise UserError(f"The image {path} is {kind} and not a file: remove it.")
    return found


def _is_complete(image: Any, file: BinaryIO, head: bytes) -> bool:
    """Whether an opened image's file is as long as it says; False where it does not say."""
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
    """An image in memory as `read_image` gives it from a file; `name` is what errors call it."""
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
    except Exception:  # a corrupt EXIF block raises nearly anything, and says nothing about the image
        return image
