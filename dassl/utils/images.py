"""Reading images of the kinds that clinics have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from .errors import UserError

READING = 2  # goes up when `read_image` gives other pixels, so that features of the former ones are not used


def read_image(path: str | Path) -> Image.Image:
    """Read an image as 8-bit RGB, upright: turned as its EXIF orientation says.

    16-bit and floating-point greys are stretched from their least to their largest value; transparent pixels lie on
    black. DICOM files (.dcm) are read by pydicom with their own value-of-interest window.

    Raises:
        UserError: the file is missing, is no image, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"The image {path} is missing.")
    if path.suffix.lower() == ".dcm":
        return _read_dicom(path)
    try:
        # Given a path, Pillow 13 maps an uncompressed TIFF into memory and garbles it if its orientation is 5 to 8.
        with path.open("rb") as file, Image.open(file) as image:
            image.load()
    except UnidentifiedImageError:
        raise UserError(f"The image {path} cannot be read (it is no image): replace it with an intact copy.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"The image {path} cannot be read ({error}): replace it with an intact copy.") from None
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image in memory as `read_image` gives it from a file."""
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _stretched(np.asarray(image, dtype=np.float64))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return image.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a corrupt EXIF block raises nearly anything, and says nothing about the image
        return image


def _stretched(values: np.ndarray) -> Image.Image:
    low, high = float(np.min(values)), float(np.max(values))
    scaled = (values - low) / (high - low) * 255 if high > low else np.zeros_like(values)
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")


def _read_dicom(path: Path) -> Image.Image:
    try:
        import pydicom
        from pydicom.errors import InvalidDicomError
        from pydicom.pixels import apply_modality_lut, apply_voi_lut
    except ImportError:
        raise UserError(f"Reading {path} needs pydicom: pip install pydicom.") from None
    try:
        data = pydicom.dcmread(path)
        pixels = data.pixel_array
        if pixels.ndim == 3 and int(data.get("SamplesPerPixel", 1)) == 1:
            raise UserError(f"{path} holds {len(pixels)} frames: export one frame a file.")
        if pixels.ndim == 3:
            return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
        values = apply_voi_lut(apply_modality_lut(pixels, data), data).astype(np.float64)
    except (InvalidDicomError, OSError, AttributeError, ValueError, RuntimeError, EOFError) as error:
        raise UserError(f"The DICOM file {path} cannot be read ({error}): replace it with an intact copy.") from None
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        values = -values
    return _stretched(values)
