"""Reads DICOM files as 8-bit pixels: frames, palettes, colour spaces, modality and value-of-interest tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ogkd.core.errors import UserError
from ogkd.core.levels import full_scale, scaled, stretched
from ogkd.core.words import counted

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.pixels.decoders.base import Decoder

MIDDLE = 0  # the frame number that means the middle frame
PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
GREYS = ("MONOCHROME1", "MONOCHROME2")
JPEG_12_BIT = "JPEG Extended"
# What to install for the transfer syntaxes, by a part of their names, that Pillow and pydicom do not decode themselves.
DECODERS = {
    JPEG_12_BIT: "pip install pylibjpeg pylibjpeg-libjpeg (the latter under the GPL)",
    "JPEG Lossless": "pip install python-gdcm",
    "JPEG-LS": "pip install pyjpegls",
    "JPEG 2000": "pip install pylibjpeg pylibjpeg-openjpeg",
}
FUNCTIONAL_GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
PALETTES = tuple(f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue"))


def read_dicom(path: Path, file: BinaryIO, frame: int = MIDDLE) -> tuple[np.ndarray, int]:
    """Read one frame in 8 bits, RGB (rows, columns, 3) or greyscale (rows, columns), and return it with their number.

    Grey values pass through the file's modality table and its first value-of-interest table or window, whose ends
    become black and white; without one they are stretched. Padding is black. MONOCHROME1 is inverted. Palettes are
    looked up, other colour spaces are converted to RGB, and more than 8 bits are scaled to 8.

    Args:
        path: the file's name in errors.
        file: the open file, with or without a preamble.
        frame: counted from 1; 0 is the middle one.

    Raises:
        UserError: the file holds no image or no such frame, or needs a decoder that is not installed.
        Exception: whatever pydicom or a decoder raises on a corrupt file.
    """
    data = _opened(path, file)
    frames = int(data.get("NumberOfFrames") or 1)
    index = frame_index(f"The DICOM file {path}", frames, frame)
    pixels, kind, bits = _decoded(path, data, index)
    if not np.isfinite(pixels).all():
        raise UserError(f"The DICOM file {path} has values that are NaN or infinite: export it without them.")
    if kind == "PALETTE COLOR":
        return _coloured(pixels, data), frames
    if kind in GREYS:
        return _grey(pixels, _of_frame(data, index), kind == "MONOCHROME1"), frames
    if kind == "RGB":
        return scaled(pixels, 0, full_scale(pixels) if bits == 16 else 2**bits - 1), frames
    raise UserError(f"The DICOM file {path} stores colours as {kind}, which is not supported: export it as RGB.")


def frame_index(what: str, frames: int, frame: int) -> int:
    """Return the index, counted from 0, of a frame counted from 1, or of the middle one for 0.

    Raises:
        UserError: there is no such frame in `what`.
    """
    if frame > frames:
        raise UserError(
            f"{what} has {counted(frames, 'frame')} and no frame {frame}: lower INPUT.FRAME, or set it to 0 for the "
            "middle one."
        )
    return frames // 2 if frame == MIDDLE else frame - 1


def _opened(path: Path, file: BinaryIO) -> Dataset:
    """Read the file's data set and check that it describes an image. Files without a preamble are read too."""
    import pydicom
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    data = pydicom.dcmread(file, force=True)
    if not data:
        what = "ends too early" if len(data.file_meta) else "is not a DICOM file"
        raise UserError(f"The file {path} {what}: replace it with an intact copy.")
    if "Rows" not in data or not any(name in data for name in PIXELS):
        raise UserError(f"The DICOM file {path} holds no pixels{_kind(data)}: leave it out.")
    if not data.file_meta.get("TransferSyntaxUID"):
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def _kind(data: Dataset) -> str:
    """Return the kind that a file declares, in brackets; "" if it declares none."""
    kind = data.get("SOPClassUID") or data.file_meta.get("MediaStorageSOPClassUID")
    return f" (it is a file of {kind.name})" if kind else ""


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
    beyond_pillow = JPEG_12_BIT in syntax.name and int(data.get("BitsStored", 8)) > 8  # Pillow reads only 8 bits
    if not decoder.is_available or (beyond_pillow and decoder.available_plugins == ("pillow",)):
        advice = next((how for kind, how in DECODERS.items() if kind in syntax.name), "export it without compression")
        raise UserError(
            f"The DICOM file {path} is compressed as {syntax.name}, whose decoder is not installed: {advice}."
        )
    return decoder


def _decoded(path: Path, data: Dataset, index: int) -> tuple[np.ndarray, str, int]:
    """Return one frame as stored, its photometric interpretation after decoding, and its bits per sample."""
    from pydicom.pixels import as_pixel_options

    decoder = _decoder(path, data)
    options = as_pixel_options(data)
    pixels, result = decoder.as_array(data, index=index, validate=True, raw=False, **options)
    bits = int(result.get("bits_stored") or 0) or pixels.dtype.itemsize * 8
    if pixels.dtype.kind in "iu" and pixels.size and int(pixels.max()) >= 2**bits:  # the header is wrong
        bits = pixels.dtype.itemsize * 8
    return pixels, str(result["photometric_interpretation"]), bits


def _coloured(indices: np.ndarray, data: Dataset) -> np.ndarray:
    """Look up a palette's colours, in 8 bits."""
    from pydicom.pixels import apply_color_lut

    if f"{PALETTES[0]}Data" in data:
        tables, colours = zip(*(_looked_up(indices, data, name, _order(data)) for name in PALETTES), strict=True)
        return scaled(np.stack(colours, -1), 0, full_scale(np.concatenate(tables)))
    colours = apply_color_lut(indices, data)[..., :3]  # the tables are given in segments
    return scaled(colours, 0, 2 ** data[f"{PALETTES[0]}Descriptor"].value[2] - 1)


def _looked_up(values: np.ndarray, item: Dataset, name: str, order: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries of the lookup table `name` of an item, and those for the values, clipped to the table's ends.

    Entries are words in the byte `order`, or, in tables of half the size, bytes of which two make a word (PS3.3
    C.7.6.3.1.5, C.11.1.1, C.11.2.1.1). pydicom's functions index with numbers of the entries' type, and so go round in
    tables of 8-bit entries.
    """
    count, first, _ = item[f"{name}Descriptor"].value
    count, stored = count or 2**16, item[f"{name}Data"].value
    raw = stored if isinstance(stored, bytes) else np.array(stored, f"{order}u2", ndmin=1).tobytes()
    entries = np.frombuffer(raw + bytes(len(raw) % 2), f"{order}u2").astype("<u2")
    entries = (entries if len(raw) >= 2 * count else entries.view(np.uint8))[:count]
    if first >= 2**15 and values.min() < 0:  # a negative number that was written as unsigned
        first -= 2**16
    return entries, entries[(np.rint(values).astype(np.int64) - first).clip(0, count - 1)]


def _order(data: Dataset) -> str:
    """The byte order of the file's words, as numpy writes it."""
    return "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"


def _of_frame(data: Dataset, index: int) -> Dataset:
    """Return the data set with the tables and windows that an enhanced file stores per frame or for all frames."""
    shared = data.get("SharedFunctionalGroupsSequence") or []
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    for groups in (*shared[:1], *own[index : index + 1]):
        for name in FUNCTIONAL_GROUPS:
            for item in groups.get(name) or []:
                data.update(item)
    return data


def _grey(stored: np.ndarray, data: Dataset, inverted: bool) -> np.ndarray:
    """Turn stored values into 8-bit greys."""
    from pydicom.pixels import apply_modality_lut, apply_windowing

    values, padded = stored, _padded(stored, data)
    if table := data.get("ModalityLUTSequence"):
        values = _looked_up(values, table[0], "LUT", _order(data))[1]
    elif data.get("RescaleSlope") is not None and data.get("RescaleIntercept") is not None:
        values = apply_modality_lut(values, data)
    if (table := data.get("VOILUTSequence")) and "LUTData" in table[0]:
        entries, values = _looked_up(values, table[0], "LUT", _order(data))
        levels = scaled(values, entries.min(), entries.max())
    elif window := _window(data):
        with np.errstate(over="ignore"):
            levels = scaled(apply_windowing(values, window), 0, 255)
    else:
        levels = stretched(values, ~padded)
    return np.where(padded, 0, 255 - levels if inverted else levels).astype(np.uint8)


def _padded(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """Return a mask of the pixels that only fill the rectangle (PS3.3 C.7.5.1.1.2)."""
    kind = {"f4": "Float", "f8": "DoubleFloat"}.get(stored.dtype.str[1:], "")
    value, limit = (data.get(f"{kind}PixelPadding{name}") for name in ("Value", "RangeLimit"))
    if value is None:
        return np.zeros(stored.shape, bool)
    # Some files give the signed value as unsigned, so it is cast to the type of the pixels.
    low, high = np.sort(np.array([value, value if limit is None else limit]).astype(stored.dtype))
    return (stored >= low) & (stored <= high)


def _window(data: Dataset) -> Dataset | None:
    """Return the first window, with 8-bit levels as its output; None if no window has a positive width.

    Below a width of 1, which PS3.3 C.11.2.1.2 excludes for LINEAR, LINEAR_EXACT must be meant.
    """
    from pydicom import Dataset
    from pydicom.multival import MultiValue

    centres, widths = (data.get(name) for name in ("WindowCenter", "WindowWidth"))
    centres, widths = (value if isinstance(value, MultiValue) else [value] for value in (centres, widths))
    for centre, width in zip(centres, widths, strict=False):
        if centre is None or width is None or not width > 0 or not np.isfinite([float(centre), float(width)]).all():
            continue
        function = str(data.get("VOILUTFunction") or "LINEAR").upper()
        window = Dataset()
        window.WindowCenter, window.WindowWidth = centre, width
        window.VOILUTFunction = "LINEAR_EXACT" if function == "LINEAR" and width < 1 else function
        window.PhotometricInterpretation, window.BitsStored, window.PixelRepresentation = "MONOCHROME2", 8, 0
        return window
    return None
