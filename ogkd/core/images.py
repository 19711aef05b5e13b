"""Reads images in the formats that clinics use."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, NamedTuple, cast

from PIL import Image, UnidentifiedImageError

from ogkd.core.dicom import MIDDLE, frame_index, read_dicom
from ogkd.core.errors import UserError
from ogkd.core.rgb import to_rgb

READING = 4  # increased when `read_image` returns different pixels, so that older cached features are not used
FLAT = 2  # levels by which the pixels of a blank image may differ
SEVERAL = ("TIFF", "GIF", "WEBP", "PNG")  # formats with frames; the second picture of a JPEG (MPO) is a preview
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # of PNG and JPEG
# Images that Pillow does not know, volumes and videos.
UNREAD = {
    ".heic", ".heif", ".svs", ".ndpi", ".mrxs", ".scn", ".vsi", ".czi", ".nii", ".mha", ".mhd", ".nrrd", ".npy", ".npz",
    ".dng", ".nef", ".cr2", ".arw", ".mp4", ".avi", ".mov", ".mkv", ".wmv",
}  # fmt: skip
PREAMBLE = 132  # bytes of a DICOM file, of which the last four are "DICM"
# TIFF 6.0: the tag for kinds of pages, and its bits for reduced copies and masks.
SUBFILE, COPY = 254, 1 | 4


class Loaded(NamedTuple):
    """What an image file holds: the frame that was chosen in 8-bit RGB, the number of frames, and the size and mode as
    they are stored."""

    image: Image.Image
    frames: int
    size: tuple[int, int]
    mode: str


def read_image(path: str | Path, frame: int = MIDDLE) -> Image.Image:
    """Read an image as 8-bit RGB, turned upright by its EXIF orientation.

    16-bit and floating-point greys are stretched (`ogkd.core.levels.stretched`); 16-bit colours are scaled by the
    bits that they use; transparent pixels are put on black. DICOM files, recognised by the suffix .dcm or by their
    preamble, are read by `ogkd.core.dicom`. `frame` chooses one of several frames or pages, counted from 1; 0 is the
    middle one.

    Raises:
        UserError: the file is missing, is not an image, is corrupt or too large, or has no such frame.
    """
    return load_image(path, frame).image


def is_blank(image: Image.Image) -> bool:
    """Whether all pixels of an RGB image have nearly the same colour."""
    return all(high - low <= FLAT for low, high in cast(tuple, image.getextrema()))


def load_image(path: str | Path, frame: int = MIDDLE) -> Loaded:
    """Read what `read_image` reads, and say what the file holds."""
    path = Path(path)
    check_regular(path)
    name, head = f"The image {path}", b""
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF into memory and garbles it if its orientation is 5 to 8.
        with path.open("rb") as file:
            head = file.read(PREAMBLE)
            file.seek(0)
            if path.suffix.lower() == ".dcm" or head.endswith(b"DICM"):
                name = f"The DICOM file {path}"
                pixels, frames = read_dicom(path, file, frame)
                read = Image.fromarray(pixels).convert("RGB")
                return Loaded(read, frames, read.size, "DICOM")
            with Image.open(file) as image:
                size, mode, pages = image.size, image.mode, _pages(image)
                image.seek(pages[frame_index(name, len(pages), frame)])
                return Loaded(to_rgb(image, name), len(pages), size, mode)
    except (UserError, KeyboardInterrupt, SystemExit):
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
    except BaseException as error:  # a corrupt file can make a library raise anything, and one in Rust panic
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
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


def begins_as_image(path: Path) -> bool:
    """Whether a file begins as a DICOM, PNG or JPEG file; False if it cannot be opened or reading it would block."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            head = file.read(PREAMBLE)
            return head[128:] == b"DICM" or head.startswith(STARTS)
    except (UserError, OSError):
        return False


def is_unread_kind(path: str) -> bool:
    """Whether the suffix is that of images, volumes or videos; of a file that is not read here."""
    Image.init()
    return Path(path.lower().removesuffix(".gz")).suffix in UNREAD | Image.registered_extensions().keys()


def check_regular(path: Path) -> os.stat_result:
    """Return the file system's status of a file.

    Raises:
        UserError: it is missing, a folder, or a pipe, socket or device, on which reading could block.
    """
    try:
        status = path.stat()
    except (OSError, ValueError):
        raise UserError(f"The image {path} is missing.") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise UserError(f"The image {path} is {kind}, not a file: give the path of an image instead.")
    return status
