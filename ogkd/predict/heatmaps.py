"""Heat maps: an image next to how likely each of its patches would be of the answered class.

Every map has the same scale, 0 to 100 %: the probability that the classifier would give the class if it saw that patch
alone (the softmax over the classes of scale * patch token @ text feature, divided by the answer's temperature). So maps
of several images compare, and one in which no patch stands out has one colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

SIDE = 384  # pixels of each of the two pictures
MARGIN = 12
BAR = 18  # width of the colour bar
LABELS = 92  # width of its labels
SHARE = 0.6  # opacity of the colours in the right picture, over the image in grey
LARGE, SMALL = 19, 14  # font sizes in pixels
LINE = 27
INK, DOUBT = "black", "#a02800"


def colours(values: np.ndarray) -> np.ndarray:
    """RGB (..., 3) uint8 of probabilities, from dark violet for 0 to light yellow for 1."""
    return colormaps["inferno"](np.clip(values, 0, 1), bytes=True)[..., :3]


def grid(values: np.ndarray) -> np.ndarray:
    """The values (P,) of the patches of a square image, row by row, as (side, side)."""
    side = math.isqrt(len(values))
    if side * side != len(values):
        raise ValueError(f"{len(values)} patches are not those of a square image")
    return values.reshape(side, side)


def draw(
    view: Image.Image, chances: np.ndarray, classname: str, classes: int, name: str, answer: str, sure: bool = True
) -> Image.Image:
    """A picture of the image as the model saw it, next to its map, with a colour bar, the file's name and the answer.

    chances: each patch's probability (P,) of the class `classname`, one of `classes`. sure: whether the answer is one;
    otherwise it is written in another colour.
    """
    view = view.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    smooth = Image.fromarray(grid(chances).astype(np.float32)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    heat = Image.fromarray(colours(np.asarray(smooth)))
    mixed = Image.blend(view.convert("L").convert("RGB"), heat, SHARE)

    width, height = 2 * SIDE + 4 * MARGIN + BAR + LABELS, SIDE + 3 * LINE + 3 * MARGIN
    page = Image.new("RGB", (width, height), "white")
    top = 2 * LINE + MARGIN
    page.paste(view, (MARGIN, top))
    page.paste(mixed, (2 * MARGIN + SIDE, top))
    left = 3 * MARGIN + 2 * SIDE
    page.paste(Image.fromarray(colours(np.linspace(1, 0, SIDE)[:, None].repeat(BAR, 1))), (left, top))
    pen, space = ImageDraw.Draw(page), width - 2 * MARGIN
    for x in (MARGIN, 2 * MARGIN + SIDE):  # where a white image ends
        pen.rectangle((x - 1, top - 1, x + SIDE, top + SIDE), outline="grey")
    pen.text((MARGIN, MARGIN // 2), shortened(name, font(LARGE), space, keep_end=True), INK, font(LARGE))
    pen.text((MARGIN, MARGIN // 2 + LINE), shortened(answer, font(LARGE), space), INK if sure else DOUBT, font(LARGE))
    for share, label in ((1.0, "100 %"), (1 / classes, "chance"), (0.0, "0 %")):
        height_there = top + SIDE - round(share * SIDE)
        pen.line([(left + BAR, height_there), (left + BAR + 6, height_there)], INK, 2)
        if label != "chance" or share * SIDE > SMALL:  # else it would cover the 0
            pen.text((left + BAR + 10, height_there), label, INK, font(SMALL), anchor="lm")
    caption = f"right: probability of {classname} from each patch seen alone (not a segmentation)"
    pen.text((MARGIN, top + SIDE + MARGIN // 2), shortened(caption, font(SMALL), space), INK, font(SMALL))
    return page


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib, which has Greek, Cyrillic and accented letters."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def shortened(text: str, letters: Any, space: float, keep_end: bool = False) -> str:
    """The text on one line of at most `space` pixels, with an ellipsis for what does not fit."""
    text = " ".join(text.encode("utf-8", "replace").decode().split())
    cut: Callable[[int], str] = lambda count: f"…{text[-count:]}" if keep_end else f"{text[:count]}…"  # noqa: E731
    if letters.getlength(text) <= space:
        return text
    return next(cut(count) for count in range(len(text) - 1, 0, -1) if letters.getlength(cut(count)) <= space)
