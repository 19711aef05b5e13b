"""Random operations on PIL images: RandAugment (arXiv 1909.13719) and the variants of FixMatch and of Dassl.

Operations and their ranges are those of the public TensorFlow code of RandAugment and of FixMatch (arXiv 2001.07685);
their order is Dassl's, so the same seed draws the same operations.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import cast

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

GREY = (125, 123, 114)  # fills the patch that is cut out: about ImageNet's mean colour

Operation = Callable[[Image.Image, float], Image.Image]


def _signed(value: float) -> float:
    return -value if random.random() > 0.5 else value


def _affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


def shear_x(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, 1, _signed(value), 0, 0, 1, 0)


def shear_y(image: Image.Image, value: float) -> Image.Image:
    return _affine(image, 1, 0, 0, _signed(value), 1, 0)


def translate_x(image: Image.Image, share: float) -> Image.Image:
    """By a share of the width."""
    return _affine(image, 1, 0, _signed(share) * image.width, 0, 1, 0)


def translate_y(image: Image.Image, share: float) -> Image.Image:
    """By a share of the height."""
    return _affine(image, 1, 0, 0, 0, 1, _signed(share) * image.height)


def translate_x_pixels(image: Image.Image, pixels: float) -> Image.Image:
    return _affine(image, 1, 0, _signed(pixels), 0, 1, 0)


def translate_y_pixels(image: Image.Image, pixels: float) -> Image.Image:
    return _affine(image, 1, 0, 0, 0, 1, _signed(pixels))


def rotate(image: Image.Image, degrees: float) -> Image.Image:
    return image.rotate(_signed(degrees))


def auto_contrast(image: Image.Image, _: float) -> Image.Image:
    return ImageOps.autocontrast(image)


def equalize(image: Image.Image, _: float) -> Image.Image:
    return ImageOps.equalize(image)


def invert(image: Image.Image, _: float) -> Image.Image:
    return ImageOps.invert(image)


def identity(image: Image.Image, _: float) -> Image.Image:
    return image


def posterize(image: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(image, int(bits))


def solarize(image: Image.Image, threshold: float) -> Image.Image:
    return ImageOps.solarize(image, cast(int, threshold))  # Pillow compares pixels with any number


def solarize_add(image: Image.Image, addition: float) -> Image.Image:
    """Brighten all pixels, then invert those of 128 and above."""
    brighter = np.clip(np.asarray(image).astype(np.int64) + int(addition), 0, 255).astype(np.uint8)
    return ImageOps.solarize(Image.fromarray(brighter), 128)


def color(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Color(image).enhance(factor)


def contrast(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def brightness(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def sharpness(image: Image.Image, factor: float) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(factor)


def cut_out(image: Image.Image, side: float) -> Image.Image:
    """Paint a square of `side` pixels around a random point grey."""
    x, y = np.random.uniform(image.width), np.random.uniform(image.height)
    left, top = int(max(0, x - side / 2)), int(max(0, y - side / 2))
    image = image.copy()
    ImageDraw.Draw(image).rectangle((left, top, min(image.width, left + side), min(image.height, top + side)), GREY)
    return image


RANDAUGMENT: tuple[tuple[Operation, float, float], ...] = (
    (auto_contrast, 0, 1), (equalize, 0, 1), (invert, 0, 1), (rotate, 0, 30), (posterize, 4, 8), (solarize, 0, 256),
    (solarize_add, 0, 110), (color, 0.1, 1.9), (contrast, 0.1, 1.9), (brightness, 0.1, 1.9), (sharpness, 0.1, 1.9),
    (shear_x, 0, 0.3), (shear_y, 0, 0.3), (cut_out, 0, 40), (translate_x_pixels, 0, 100), (translate_y_pixels, 0, 100),
)  # fmt: skip
RANDAUGMENT2: tuple[tuple[Operation, float, float], ...] = (
    (auto_contrast, 0, 1), (brightness, 0.1, 1.9), (color, 0.1, 1.9), (contrast, 0.1, 1.9), (equalize, 0, 1),
    (identity, 0, 1), (invert, 0, 1), (posterize, 4, 8), (rotate, -30, 30), (sharpness, 0.1, 1.9), (shear_x, -0.3, 0.3),
    (shear_y, -0.3, 0.3), (solarize, 0, 256), (translate_x, -0.3, 0.3), (translate_y, -0.3, 0.3),
)  # fmt: skip
FIXMATCH: tuple[tuple[Operation, float, float], ...] = (
    (auto_contrast, 0, 1), (brightness, 0.05, 0.95), (color, 0.05, 0.95), (contrast, 0.05, 0.95), (equalize, 0, 1),
    (identity, 0, 1), (posterize, 4, 8), (rotate, -30, 30), (sharpness, 0.05, 0.95), (shear_x, -0.3, 0.3),
    (shear_y, -0.3, 0.3), (solarize, 0, 256), (translate_x, -0.3, 0.3), (translate_y, -0.3, 0.3),
)  # fmt: skip


class RandAugment:
    """Apply n operations, each at m/30 of its range."""

    def __init__(self, n: int = 2, m: int = 10) -> None:
        if not 0 <= m <= 30:
            raise ValueError(f"the magnitude m is {m}, but it must be from 0 to 30")
        self.n, self.m = n, m

    def __call__(self, image: Image.Image) -> Image.Image:
        for operation, least, most in random.choices(RANDAUGMENT, k=self.n):
            image = operation(image, self.m / 30 * (most - least) + least)
        return image

    def __repr__(self) -> str:
        return f"RandAugment({self.n}, {self.m})"


class RandAugment2:
    """Apply each of n operations with probability p, at a strength drawn from its range."""

    def __init__(self, n: int = 2, p: float = 0.6) -> None:
        self.n, self.p = n, p

    def __call__(self, image: Image.Image) -> Image.Image:
        for operation, least, most in random.choices(RANDAUGMENT2, k=self.n):
            if random.random() <= self.p:
                image = operation(image, random.random() * (most - least) + least)
        return image

    def __repr__(self) -> str:
        return f"RandAugment2({self.n}, p={self.p})"


class RandAugmentFixMatch:
    """Apply n operations, each at a strength drawn from its range."""

    def __init__(self, n: int = 2) -> None:
        self.n = n

    def __call__(self, image: Image.Image) -> Image.Image:
        for operation, least, most in random.choices(FIXMATCH, k=self.n):
            image = operation(image, random.random() * (most - least) + least)
        return image

    def __repr__(self) -> str:
        return f"RandAugmentFixMatch({self.n})"
