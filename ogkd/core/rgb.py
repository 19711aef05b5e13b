"""Turns Pillow's images of every mode and depth into 8-bit RGB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from ogkd.core.errors import UserError
from ogkd.core.levels import stretched, upper_bits

# Tags of TIFF 6.0.
BITS, PHOTOMETRIC, PLANAR, COLOUR_MAP, SAMPLE_FORMAT = 258, 262, 284, 320, 339
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
