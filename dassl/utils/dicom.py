"""Reads DICOM files as 8-bit pixels: frames, palettes, colour spaces, modality and value-of-interest tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from .errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

MIDDLE = 0  # the frame number that means the middle frame
PREAMBLE = 132  # bytes, of which the last four are "DICM"
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREYS = ("MONOCHROME1", "MONOCHROME2")
# What to install for the transfer syntaxes that Pillow and pydicom do not decode by themselves.
_JPEG_2000 = "pip install pylibjpeg pylibjpeg-openjpeg"
_JPEG_LOSSLESS = "pip install python-gdcm"
_JPEG_LS = "pip install pyjpegls"
JPEG_12_BIT = "1.2.840.10008.1.2.4.51"
DECODERS = {
    JPEG_12_BIT: "pip install pylibjpeg pylibjpeg-libjpeg (the latter under the GPL)",
    "1.2.840.10008.1.2.4.57": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _JPEG_2000,
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
}
FUNCTIONAL_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
FAR = 1e12  # beyond the ends of every window


def starts_as_dicom(head: bytes) -> bool:
    """Tell from a file's first 132 bytes whether it is a DICOM file."""
    return head[128:PREAMBLE] == b"DICM"


def read_dicom(path: Path, frame: int = MIDDLE) -> np.ndarray:
    """Read one frame in 8 bits: RGB (rows, columns, 3) or greyscale (rows, columns).

    Grey values pass through the file's modality table and its first value-of-interest table or window, whose ends
    become black and white; without one they are stretched from the smallest to the largest value. MONOCHROME1 is
    inverted. Palettes are looked up, other colour spaces are converted to RGB, and more than 8 bits are scaled to 8.

    Args:
        path: the file, with or without a preamble.
        frame: counted from 1; 0 is the middle one.

    Raises:
        UserError: the file is corrupt, holds no image or no such frame, or needs a decoder that is not installed.
    """
    with _sentence(path), path.open("rb") as file:
        data = _opened(path, file)
        index = _index(path, data, frame)
        pixels, kind, bits = _decoded(path, data, index)
        if not np.isfinite(pixels).all():
            raise UserError(f"The DICOM file {path} has values that are NaN or infinite: export it without them.")
        if kind == "PALETTE COLOR":
            return _looked_up(pixels, data)
        if kind in GREYS:
            grey = _grey(pixels, _of_frame(data, index))
            return 255 - grey if kind == "MONOCHROME1" else grey
        if kind == "RGB":
            return scaled(pixels, 0, 2**bits - 1)
        raise UserError(f"The DICOM file {path} stores colours as {kind}, which is not supported: export it as RGB.")


def check_dicom(path: Path, frame: int = MIDDLE) -> int:
    """Return the number of frames, reading the header alone.

    Raises:
        UserError: the header shows that `read_dicom` would raise, or the file is too short for its pixels.
    """
    with _sentence(path), path.open("rb") as file:
        from pydicom.pixels.utils import get_expected_length

        data = _opened(path, file, header_only=True)
        left = path.stat().st_size - file.tell()
        _index(path, data, frame)
        _decoder(path, data)
        syntax = data.file_meta.TransferSyntaxUID
        if not syntax.is_compressed and not syntax.is_deflated and left < get_expected_length(data):
            raise UserError(
                f"The DICOM file {path} is truncated ({left} bytes remain for pixels that take "
                f"{get_expected_length(data)}): replace it with an intact copy."
            )
        return _frames(data)


@contextlib.contextmanager
def _sentence(path: Path) -> Iterator[None]:
    """Turn whatever pydicom or a decoder raises on a corrupt file into a UserError."""
    try:
        yield
    except UserError:
        raise
    except ImportError:
        raise UserError(f"Reading {path} needs pydicom: pip install pydicom.") from None
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"The DICOM file {path} cannot be read ({reason.rstrip('.')}): replace it with an intact copy."
        ) from None


def _opened(path: Path, file: BinaryIO, header_only: bool = False) -> Dataset:
    """Read the file's data set and check that it describes an image. Files without a preamble are read too."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data = pydicom.dcmread(file, stop_before_pixels=header_only, force=True)
    if not data:
        raise UserError(f"The file {path} is not a DICOM file: replace it with an intact copy.")
    if "Rows" not in data or not (header_only or any(name in data for name in PIXELS)):
        raise UserError(f"The DICOM file {path} holds no pixels{_kind(data)}: leave it out.")
    if not hasattr(data, "file_meta"):
        data.file_meta = FileMetaDataset()
    if not data.file_meta.get("TransferSyntaxUID"):
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def _kind(data: Dataset) -> str:
    """Return the kind that a file declares, in brackets; "" if it declares none."""
    meta = getattr(data, "file_meta", {})
    kind = data.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    return f" (it is a file of {kind.name})" if kind else ""


def _frames(data: Dataset) -> int:
    return int(data.get("NumberOfFrames") or 1)


def _index(path: Path, data: Dataset, frame: int) -> int:
    """Return the index of a frame, counted from 0."""
    frames = _frames(data)
    if frame > frames:
        raise UserError(
            f"The DICOM file {path} has {frames} frame{'s' * (frames != 1)} and no frame {frame}: lower INPUT.FRAME, "
            "or set it to 0 for the middle one."
        )
    return frames // 2 if frame == MIDDLE else frame - 1


def _decoder(path: Path, data: Dataset) -> Decoder:
    """Return the decoder for the file's transfer syntax."""
    from pydicom.pixels import get_decoder

    syntax = data.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UserError(
            f"The DICOM file {path} is compressed as {syntax.name}, which is unsupported: export its frames as images."
        ) from None
    if not decoder.is_available or (_beyond_pillow(data) and decoder.available_plugins == ("pillow",)):
        advice = DECODERS.get(str(syntax), "export it without compression")
        raise UserError(
            f"The DICOM file {path} is compressed as {syntax.name}, whose decoder is not installed: {advice}."
        )
    return decoder


def _beyond_pillow(data: Dataset) -> bool:
    """Whether a file holds a 12-bit JPEG; Pillow reads only 8 bits."""
    return data.file_meta.TransferSyntaxUID == JPEG_12_BIT and int(data.get("BitsStored", 8)) > 8


def _decoded(path: Path, data: Dataset, index: int) -> tuple[np.ndarray, str, int]:
    """Return one frame as stored, its photometric interpretation after decoding, and its bits per sample."""
    from pydicom.pixels import as_pixel_options

    decoder = _decoder(path, data)
    options = as_pixel_options(data)
    pixels, found = decoder.as_array(data, index=index, validate=True, raw=False, **options)
    bits = int(found.get("bits_stored") or 0) or pixels.dtype.itemsize * 8
    if pixels.dtype.kind in "iu" and pixels.size and int(pixels.max()) >= 2**bits:  # the header is wrong
        bits = pixels.dtype.itemsize * 8
    return pixels, str(found["photometric_interpretation"]), bits


def _looked_up(indices: np.ndarray, data: Dataset) -> np.ndarray:
    """Look up a palette's colours, in 8 bits."""
    from pydicom.pixels import apply_color_lut

    colours = apply_color_lut(indices, data)[..., :3]
    bits = data.RedPaletteColorLookupTableDescriptor[2]
    return scaled(colours, 0, 255 if bits == 8 and colours.max() <= 255 else 65535)


def _of_frame(data: Dataset, index: int) -> Dataset:
    """Return the data set with the tables and windows that an enhanced file stores per frame or for all frames."""
    shared = data.get("SharedFunctionalGroupsSequence") or []
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[index : index + 1]):
        for name in FUNCTIONAL_GROUPS:
            for item in groups.get(name) or []:
                data.update(item)
    return data


def _grey(values: np.ndarray, data: Dataset) -> np.ndarray:
    """Turn stored values into 8-bit greys; MONOCHROME1 is inverted later."""
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    values = apply_modality_lut(values, data)
    if table := data.get("VOILUTSequence"):
        count, first, _ = table[0].LUTDescriptor
        values = np.rint(values).astype(np.int64)
        ends = apply_voi_lut(np.arange(first, first + (count or 2**16)), data)
        return scaled(apply_voi_lut(values, data), ends.min(), ends.max())
    if data.get("WindowWidth") is not None and data.get("WindowCenter") is not None:
        with np.errstate(over="ignore"):
            black, white = apply_voi_lut(np.array([-FAR, FAR]), data)
            return scaled(apply_voi_lut(values, data), black, white)
    return stretched(values)


def stretched(values: np.ndarray) -> np.ndarray:
    """Scale numbers to 8 bits, from the smallest (0) to the largest (255); all 0 if they are equal."""
    return scaled(values, values.min(), values.max())


def scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Scale numbers to 8 bits, from `black` (0) to `white` (255), clipping those beyond."""
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        return values
    if black == white:
        return np.zeros(values.shape, np.uint8)
    levels = (values.astype(np.float64) - float(black)) / (float(white) - float(black)) * 255
    return levels.round().clip(0, 255).astype(np.uint8)
