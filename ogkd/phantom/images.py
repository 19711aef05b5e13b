"""Draws scan-like images: a body of textured tissue with vessels and one finding, as shown by one modality."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy  # imports ndimage when it is first used, so not where the images already exist
from numpy.random import Generator

from ogkd.phantom.findings import PAINTERS, Array

SIZE = 96  # side in pixels
Range = tuple[float, float]


class Scanner(NamedTuple):
    """The ranges from which a scanner's settings are drawn for each image."""

    contrast: Range = (0.9, 1.4)  # factor on what the finding adds
    blur: Range = (0.0, 0.6)  # standard deviation in pixels
    noise: Range = (0.015, 0.045)  # standard deviation, of a brightness in [0, 1]
    gain: Range = (0.9, 1.15)  # factor on the brightness
    gamma: Range = (0.8, 1.25)


USUAL = Scanner()  # the scanner of the pre-training


def ellipse(rng: Generator) -> Array:
    """Draw an irregular ellipse that fills most of the image, 1 inside, with a soft edge."""
    ys, xs = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / (SIZE / 2)
    ys, xs = ys - rng.uniform(-0.08, 0.08), xs - rng.uniform(-0.08, 0.08)
    angle = np.arctan2(ys, xs)
    size = rng.uniform(0.78, 0.95)
    wobble = sum(rng.uniform(0, 0.04) * np.sin(k * angle + rng.uniform(0, 6.3)) for k in (2, 3))
    return _inside(np.hypot(ys / rng.uniform(0.85, 1), xs / rng.uniform(0.85, 1)) - size * (1 + wobble))


def fan(rng: Generator) -> Array:
    """Draw the sector seen by a curved probe at the upper edge, 1 inside."""
    ys, xs = np.mgrid[:SIZE, :SIZE] / SIZE
    ys, xs = ys + rng.uniform(0.22, 0.3), xs - 0.5 - rng.uniform(-0.04, 0.04)
    radius, angle = np.hypot(ys, xs), np.abs(np.arctan2(xs, ys))
    near, far, half = rng.uniform(0.27, 0.33), rng.uniform(1.15, 1.25), rng.uniform(0.58, 0.7)
    return _inside(np.maximum.reduce([near - radius, radius - far, (angle - half) * 0.8]))


def plate(rng: Generator) -> Array:
    """Draw an exposed rectangle with rounded corners, 1 inside."""
    ys, xs = np.abs((np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / (SIZE / 2))
    power = rng.uniform(5, 9)
    return _inside(
        ((ys / rng.uniform(0.88, 0.97)) ** power + (xs / rng.uniform(0.88, 0.97)) ** power) ** (1 / power) - 1
    )


def _inside(distance: Array) -> Array:
    return 1 / (1 + np.exp(np.clip(distance * 40, -30, 30)))


def tissue(rng: Generator, body: Array) -> Array:
    """Draw grey tissue with texture at two scales, a brightness gradient and a brighter rim."""
    coarse = scipy.ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(6, 12))
    fine = scipy.ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(1.2, 2.5))
    ys, xs = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    angle = rng.uniform(0, 2 * np.pi)
    image = rng.uniform(0.3, 0.5) + rng.uniform(-0.15, 0.15) * (ys * np.cos(angle) + xs * np.sin(angle))
    image = image + rng.uniform(0.03, 0.06) * coarse / coarse.std() + rng.uniform(0.01, 0.03) * fine / fine.std()
    rim = body - scipy.ndimage.gaussian_filter(body, 3)
    return image * body + rng.uniform(0.2, 0.6) * np.clip(rim, 0, None)


def vessels(rng: Generator, image: Array, body: Array) -> None:
    """Draw a few faint winding lines that belong to no finding."""
    for _ in range(rng.integers(0, 4)):
        steps = rng.integers(25, 60)
        heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.15, steps))
        ys = rng.uniform(15, SIZE - 15) + np.cumsum(np.sin(heading))
        xs = rng.uniform(15, SIZE - 15) + np.cumsum(np.cos(heading))
        line = np.zeros_like(image)
        ys, xs = (np.clip(np.round(values), 0, SIZE - 1).astype(int) for values in (ys, xs))
        line[ys, xs] = 1.0
        image += (
            rng.uniform(0.05, 0.12)
            * np.clip(scipy.ndimage.gaussian_filter(line, rng.uniform(0.7, 1.2)) * 3, 0, 1)
            * body
        )


def tomogram(rng: Generator, image: Array, body: Array) -> Array:
    """Show dense tissue bright, as in CT."""
    return image


def sonogram(rng: Generator, image: Array, body: Array) -> Array:
    """Add speckle that grows with brightness and fades with depth, as in ultrasound."""
    speckle = scipy.ndimage.gaussian_filter(np.hypot(*rng.normal(size=(2, SIZE, SIZE))), (0.45, 0.7)) / 1.25
    depth = np.linspace(1.15, rng.uniform(0.75, 0.95), SIZE)[:, None]
    return image * depth * (1 + rng.uniform(0.2, 0.42) * (speckle - 1))


def radiograph(rng: Generator, image: Array, body: Array) -> Array:
    """Show a negative with the shadows of a few broad bands, like a film on a light box."""
    ys = np.mgrid[:SIZE, :SIZE][0] + rng.uniform(-0.3, 0.3) * np.mgrid[:SIZE, :SIZE][1]
    bands = np.clip(np.sin(2 * np.pi * ys / rng.uniform(22, 34) + rng.uniform(0, 6.3)) - 0.3, 0, None)
    return (0.95 - image - rng.uniform(0.03, 0.1) * bands) * body


def section(rng: Generator, image: Array, body: Array) -> Array:
    """Show the colours (H, W, 3) of stained tissue, as in histology: dense is purple, thin is pale."""
    grain = scipy.ndimage.gaussian_filter(rng.normal(size=image.shape), 0.8)
    stain = np.clip(image + 0.02 * grain / grain.std(), 0, 1.2)[..., None] * body[..., None]
    absorbed = np.array([0.45, 0.95, 0.4]) + rng.uniform(-0.08, 0.08, 3)
    return 0.97 * np.exp(-1.5 * stain * absorbed)


# For every modality: the shape of the body and how it is shown.
MODALITIES: dict[str, tuple[Callable[[Generator], Array], Callable[[Generator, Array, Array], Array]]] = {
    "tomogram": (ellipse, tomogram),
    "sonogram": (fan, sonogram),
    "radiograph": (plate, radiograph),
    "section": (ellipse, section),
}


def draw(rng: Generator, finding: str, modality: str, scanner: Scanner = USUAL) -> Array:
    """Draw one image with a finding, uint8: greyscale (96, 96), or (96, 96, 3) for a stained section."""
    return draw_with_mask(rng, finding, modality, scanner)[0]


def draw_with_mask(rng: Generator, finding: str, modality: str, scanner: Scanner = USUAL) -> tuple[Array, Array]:
    """Like `draw`, with a bool mask (96, 96) of the finding."""
    shape, show = MODALITIES[modality]
    body = shape(rng)
    image = tissue(rng, body)
    vessels(rng, image, body)
    healthy = image.copy()
    PAINTERS[finding](rng, image, body)
    mask = np.abs(image - healthy) > 0.08
    image = np.clip(healthy + rng.uniform(*scanner.contrast) * (image - healthy), 0, None)
    image = show(rng, image, body)
    blur = rng.uniform(*scanner.blur)
    image = scipy.ndimage.gaussian_filter(image, (blur, blur, 0)[: image.ndim])
    image = image + rng.normal(0, rng.uniform(*scanner.noise), image.shape)
    image = np.clip(image * rng.uniform(*scanner.gain) + rng.uniform(-0.03, 0.03), 0, 1) ** rng.uniform(*scanner.gamma)
    return (image * 255).round().astype(np.uint8), mask
