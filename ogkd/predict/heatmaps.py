"""Heat maps: an image next to its patches' evidence for a class.

The evidence is the logit of each patch token, scale * token @ text feature, the quantity by which OGKD's local
distillation selects patches.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

SIDE = 336  # pixels of each of the two pictures
MARGIN = 8
BAR = 14  # width of the colour bar
SHARE = 0.5  # opacity of the colours in the right picture, over the image in grey


def colours(values: np.ndarray) -> np.ndarray:
    """RGB (..., 3) uint8 of values in 0..1, from dark violet for weak to light yellow for strong evidence."""
    return colormaps["inferno"](np.clip(values, 0, 1), bytes=True)[..., :3]


def grid(evidence: np.ndarray) -> np.ndarray:
    """The evidence (P,) of the patches of a square image, row by row, as (side, side)."""
    side = math.isqrt(len(evidence))
    if side * side != len(evidence):
        raise ValueError(f"{len(evidence)} patches are not those of a square image")
    return evidence.reshape(side, side)


def draw(view: Image.Image, evidence: np.ndarray, caption: str) -> Image.Image:
    """The image as the model saw it next to its evidence (P,), with the evidence's range and a caption below."""
    view = view.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    low, high = float(evidence.min()), float(evidence.max())
    scaled = (grid(evidence) - low) / (high - low) if high > low else np.zeros_like(grid(evidence))
    smooth = Image.fromarray(scaled.astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    heat = Image.fromarray(colours(np.asarray(smooth)))
    mixed = Image.blend(view.convert("L").convert("RGB"), heat, SHARE)

    text_height = 34
    width = 2 * SIDE + 4 * MARGIN + BAR + 44
    page = Image.new("RGB", (width, SIDE + 2 * MARGIN + text_height), "white")
    page.paste(view, (MARGIN, MARGIN))
    page.paste(mixed, (2 * MARGIN + SIDE, MARGIN))
    bar = colours(np.linspace(1, 0, SIDE)[:, None].repeat(BAR, 1))
    left = 3 * MARGIN + 2 * SIDE
    page.paste(Image.fromarray(bar), (left, MARGIN))
    pen = ImageDraw.Draw(page)
    pen.text((left + BAR + 4, MARGIN), f"{high:.1f}", fill="black")
    pen.text((left + BAR + 4, MARGIN + SIDE - 12), f"{low:.1f}", fill="black")
    pen.text((MARGIN, SIDE + 2 * MARGIN), caption, fill="black")
    pen.text(
        (MARGIN, SIDE + 2 * MARGIN + 15), "right: each patch's logit of that class (not a segmentation)", fill="black"
    )
    return page
