"""A scan-like image: an outlined body of textured tissue, vessels, noise, and one finding."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from scipy.ndimage import gaussian_filter

from .findings import PAINTERS, Array

SIZE = 96  # pixels a side


def body_mask(rng: Generator) -> Array:
    """A wobbly ellipse that fills most of the image, 1 inside, with a soft edge."""
    ys, xs = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / (SIZE / 2)
    ys, xs = ys - rng.uniform(-0.08, 0.08), xs - rng.uniform(-0.08, 0.08)
    angle = np.arctan2(ys, xs)
    size = rng.uniform(0.78, 0.95)
    wobble = sum(rng.uniform(0, 0.04) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3))
    distance = np.hypot(ys / rng.uniform(0.85, 1), xs / rng.uniform(0.85, 1)) - size * (1 + wobble)
    return 1 / (1 + np.exp(np.clip(distance * 40, -30, 30)))


def tissue(rng: Generator, body: Array) -> Array:
    """Grey tissue with texture at two scales, a brightness gradient and a brighter rim."""
    coarse = gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(6, 12))
    fine = gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(1.2, 2.5))
    ys, xs = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    image = rng.uniform(0.3, 0.5) + rng.uniform(-0.15, 0.15) * (ys * np.cos(angle) + xs * np.sin(angle))
    image = image + rng.uniform(0.03, 0.07) * coarse / coarse.std() + rng.uniform(0.015, 0.035) * fine / fine.std()
    rim = body - gaussian_filter(body, 3)
    return image * body + rng.uniform(0.2, 0.6) * np.clip(rim, 0, None)


def vessels(rng: Generator, image: Array, body: Array) -> None:
    """A few faint winding lines, which no finding is made of."""
    for _ in range(rng.integers(0, 4)):
        steps = rng.integers(25, 60)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.15, steps))
        ys = rng.uniform(15, SIZE - 15) + np.cumsum(np.sin(heading))
        xs = rng.uniform(15, SIZE - 15) + np.cumsum(np.cos(heading))
        line = np.zeros_like(image)
        ys, xs = (np.clip(np.round(values), 0, SIZE - 1).astype(int) for values in (ys, xs))
        line[ys, xs] = 1.0
        image += rng.uniform(0.05, 0.14) * np.clip(gaussian_filter(line, rng.uniform(0.7, 1.2)) * 3, 0, 1) * body


def draw(rng: Generator, classname: str) -> Array:
    """One image (96, 96) uint8 with a finding of the class."""
    return draw_with_mask(rng, classname)[0]


def draw_with_mask(rng: Generator, classname: str) -> tuple[Array, Array]:
    """One image (96, 96) uint8 with a finding of the class, and where the finding is, (96, 96) bool."""
    body = body_mask(rng)
    image = tissue(rng, body)
    vessels(rng, image, body)
    healthy = image.copy()
    PAINTERS[classname](rng, image, body)
    mask = np.abs(image - healthy) > 0.08
    image = gaussian_filter(image, rng.uniform(0.0, 0.5))
    image = image + rng.normal(0, rng.uniform(0.015, 0.045), image.shape)
    low, high = rng.uniform(-0.03, 0.05), rng.uniform(0.85, 1.05)
    grey = np.clip((image - low) / (high - low), 0, 1) ** rng.uniform(0.8, 1.25)
    return (grey * 255).round().astype(np.uint8), mask
