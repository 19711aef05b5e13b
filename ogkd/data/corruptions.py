"""Images made worse in the ways of MedMNIST-C (Di Salvo et al., arXiv 2406.17536): kinds and strengths by modality.

The strengths are those of MedMNIST-C, which are made for images of 224 pixels; a corruption is applied to the image as
the model sees it, resized and cropped. The code is this project's own: shapes of stains, letters of characters and all
random numbers differ from MedMNIST-C's. An image without colour stays without.
"""

from __future__ import annotations

import hashlib
import io
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from ogkd.core import UserError

LEVELS = (1, 2, 3, 4, 5)
GROUPS = {
    "digital": ("pixelate", "jpeg_compression"),
    "noise": ("gaussian_noise", "speckle_noise", "impulse_noise", "shot_noise"),
    "blur": ("defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur"),
    "colour": ("brightness_up", "brightness_down", "contrast_up", "contrast_down", "saturate"),
    "task-specific": (
        "stain_deposit", "bubble", "black_corner", "characters", "gamma_corr_up", "gamma_corr_down",
    ),
}  # fmt: skip
KINDS = tuple(kind for group in GROUPS.values() for kind in group)

ALMOST = 1e-6  # grey levels, so that an unchanged value is not rounded down
STAINS = (24, 24, 24, 24, 32)  # sides in pixels by level
FEWEST_BUBBLES, SMALLEST_BUBBLE, BORDER, WHITE, RIM = 7, 3, 2, (255, 255, 255, 100), (255, 255, 255, 130)
FEWEST_LETTERS, SMALLEST_SCALE, EM, MARGIN = 3, 14, 0.3, 10  # EM: pixels of a letter's side per hundredth of its scale


@dataclass(frozen=True)
class Recipe:
    """The corruptions of a modality: the strengths of each kind by level.

    origin: MedMNIST-C's data set and, if that is of another modality, why. pattern: of the modality's usual names.
    """

    modality: str
    origin: str
    pattern: str
    kinds: dict[str, tuple]


_MILD_UP, _DOWN = (1.1, 1.2, 1.3, 1.4, 1.6), (0.9, 0.8, 0.7, 0.6, 0.4)
_UP_TO_HALF, _DOWN_TO_HALF = (1.1, 1.2, 1.3, 1.4, 1.5), (0.9, 0.8, 0.7, 0.6, 0.5)
_FINE_PIXELS, _COARSE_PIXELS = (0.7, 0.6, 0.5, 0.4, 0.35), (0.3, 0.25, 0.2, 0.15, 0.1)
_JPEG = (50, 30, 15, 10, 7)
_SPECKLE, _IMPULSE = (0.05, 0.15, 0.2, 0.35, 0.45), (0.01, 0.03, 0.06, 0.09, 0.17)
_DERMA = {
    "pixelate": (0.7, 0.5, 0.4, 0.3, 0.25),
    "jpeg_compression": (30, 20, 15, 10, 7),
    "gaussian_noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "speckle_noise": _SPECKLE,
    "impulse_noise": _IMPULSE,
    "shot_noise": (60, 25, 18, 10, 5),
    "defocus_blur": ((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5)),
    "motion_blur": ((10, 5), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
    "brightness_up": _UP_TO_HALF,
    "brightness_down": _DOWN_TO_HALF,
    "contrast_up": _MILD_UP,
    "contrast_down": (0.8, 0.7, 0.6, 0.5, 0.4),
    "black_corner": (1.10, 1.05, 1.00, 0.90, 0.95),
    "characters": ((1, 6, 14), (2, 7, 15), (3, 8, 16), (4, 9, 17), (6, 10, 18)),
}
_ORGAN = {
    "pixelate": _FINE_PIXELS,
    "jpeg_compression": _JPEG,
    "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.20),
    "speckle_noise": (0.05, 0.10, 0.20, 0.30, 0.40),
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.08),
    "shot_noise": (200, 100, 50, 25, 15),
    "gaussian_blur": (11, 13, 15, 17, 21),
    "brightness_up": (1.2, 1.3, 1.4, 1.5, 1.6),
    "brightness_down": (0.8, 0.75, 0.7, 0.65, 0.6),
    "contrast_up": (1.3, 1.4, 1.6, 1.7, 1.8),
    "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
    "gamma_corr_up": (1.3, 1.4, 1.6, 1.8, 2.0),
    "gamma_corr_down": _DOWN,
}
RECIPES = (
    Recipe("dermatoscopy", "DermaMNIST-C", r"\bdermo?ato|\bdermos|\bskin", _DERMA),
    Recipe("optical coherence tomography", "OCTMNIST-C", r"\boct\b|optical coherence", {
        "pixelate": _COARSE_PIXELS,
        "jpeg_compression": (30, 15, 10, 7, 5),
        "speckle_noise": (0.15, 0.30, 0.40, 0.50, 0.60),
        "defocus_blur": ((0.5, 0.6), (1, 0.5), (1.5, 0.1), (2, 0.5), (2.5, 0.1)),
        "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
        "contrast_down": (0.6, 0.4, 0.3, 0.2, 0.15),
    }),
    Recipe("histopathology", "PathMNIST-C", r"\bhisto|\bpatholog|\bh&e\b", {
        "pixelate": (0.8, 0.6, 0.4, 0.3, 0.25),
        "jpeg_compression": _JPEG,
        "defocus_blur": ((3, 0.1), (4, 0.1), (5, 0.2), (6, 0.2), (7, 0.3)),
        "motion_blur": ((5, 5), (10, 5), (15, 5), (15, 8), (15, 12)),
        "brightness_up": (1.1, 1.15, 1.2, 1.22, 1.25),
        "brightness_down": (0.85, 0.8, 0.75, 0.72, 0.7),
        "contrast_up": _MILD_UP,
        "contrast_down": (0.8, 0.7, 0.6, 0.55, 0.5),
        "saturate": (0.05, 0.10, 0.15, 0.20, 0.25),
        "stain_deposit": (1, 2, 3, 4, 5),
        "bubble": ((7, 15), (10, 15), (12, 15), (15, 20), (17, 25)),
    }),
    Recipe("fundus photography", "RetinaMNIST-C", r"\bfundus|\bretina", {
        "pixelate": (0.8, 0.6, 0.5, 0.4, 0.35),
        "jpeg_compression": (30, 25, 20, 10, 5),
        "gaussian_noise": (0.04, 0.08, 0.12, 0.16, 0.20),
        "speckle_noise": (0.10, 0.15, 0.20, 0.25, 0.30),
        "defocus_blur": ((4, 0.1), (5, 0.2), (6, 0.3), (7, 0.4), (8, 0.5)),
        "motion_blur": ((8, 5), (15, 5), (15, 8), (15, 12), (20, 15)),
        "brightness_down": _DOWN_TO_HALF,
        "contrast_down": _DOWN,
    }),
    Recipe("ultrasound", "BreastMNIST-C", r"\bultraso|\bsonogra|\bechocardio", {
        "pixelate": _COARSE_PIXELS,
        "jpeg_compression": _JPEG,
        "speckle_noise": (0.10, 0.15, 0.20, 0.25, 0.30),
        "motion_blur": ((5, 5), (9, 7), (9, 10), (13, 10), (17, 12)),
        "brightness_up": (1.4, 1.5, 1.6, 1.8, 2.0),
        "brightness_down": (0.55, 0.5, 0.45, 0.4, 0.3),
        "contrast_down": _DOWN,
    }),
    Recipe("X-ray", "ChestMNIST-C", r"\bx.?rays?\b|\bradiogra|\bmammogra|\bcxr\b", {
        "pixelate": _COARSE_PIXELS,
        "jpeg_compression": _JPEG,
        "gaussian_noise": (0.04, 0.08, 0.12, 0.18, 0.26),
        "speckle_noise": _SPECKLE,
        "impulse_noise": _IMPULSE,
        "shot_noise": (60, 25, 18, 10, 5),
        "gaussian_blur": (3, 5, 7, 9, 11),
        "brightness_up": _UP_TO_HALF,
        "brightness_down": _DOWN_TO_HALF,
        "contrast_up": _MILD_UP,
        "contrast_down": _DOWN,
        "gamma_corr_up": _MILD_UP,
        "gamma_corr_down": _DOWN,
    }),
    Recipe("CT", "OrganAMNIST-C", r"\bct\b|computed tomo", _ORGAN),
    Recipe("MRI", "OrganAMNIST-C, for CT: MedMNIST-C has no MRI", r"\bmri?\b|magnetic res", _ORGAN),
    Recipe("endoscopy", "DermaMNIST-C, the nearest colour photographs: MedMNIST-C has no endoscopy",
           r"endosco|colonosco|gastrosco", _DERMA),
)  # fmt: skip


def recipe_for(modality: str) -> Recipe:
    """The recipe of a modality in any usual spelling: "X-ray", "chest radiograph", "dermoscopy".

    Raises UserError if it is none of the known ones.
    """
    for recipe in RECIPES:
        if re.search(recipe.pattern, modality.lower()):
            return recipe
    raise UserError(
        f"There is no recipe of corruptions for the modality {modality!r}: give the nearest with --modality, one of "
        f"{', '.join(recipe.modality for recipe in RECIPES)}."
    )


def corrupted(image: Image.Image, name: str, kind: str, level: int, recipe: Recipe, seed: int = 0) -> Image.Image:
    """An RGB image with a kind of corruption at a level, 1 to 5.

    The same image name, seed, kind and level give the same random numbers, whatever else is corrupted and in which
    order. Raises UserError for a kind that the recipe does not have.
    """
    if kind not in recipe.kinds:
        known = ", ".join(recipe.kinds)
        raise UserError(f"The recipe for {recipe.modality} has no corruption '{kind}'; it has {known}.")
    digest = hashlib.blake2b(f"{seed}\0{kind}\0{level}\0{name}".encode("utf-8", "surrogatepass"), digest_size=16)
    random = np.random.default_rng(int.from_bytes(digest.digest(), "big"))
    result = _FUNCTIONS[kind](image, recipe.kinds[kind][LEVELS.index(level)], random)
    if not isinstance(result, Image.Image):
        result = Image.fromarray(result)
    red, green, blue = image.split()
    return result.convert("L").convert("RGB") if red == green == blue else result


# The kinds: functions of an RGB image, a strength and random numbers


def _floats(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.float64) / 255


def _bytes(values: np.ndarray) -> np.ndarray:
    """Values in 0..1 as 8-bit grey levels, rounded down as in MedMNIST-C."""
    return (np.clip(values, 0, 1) * 255 + ALMOST).astype(np.uint8)


def _pixelate(image: Image.Image, share: float, random: np.random.Generator) -> Image.Image:
    width, height = (max(1, int(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)


def _jpeg(image: Image.Image, quality: int, random: np.random.Generator) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _gaussian_noise(image: Image.Image, deviation: float, random: np.random.Generator) -> np.ndarray:
    values = _floats(image)
    return _bytes(values + random.normal(scale=deviation, size=values.shape))


def _speckle_noise(image: Image.Image, deviation: float, random: np.random.Generator) -> np.ndarray:
    values = _floats(image)
    return _bytes(values * (1 + random.normal(scale=deviation, size=values.shape)))


def _shot_noise(image: Image.Image, photons: float, random: np.random.Generator) -> np.ndarray:
    return _bytes(random.poisson(_floats(image) * photons) / photons)


def _impulse_noise(image: Image.Image, share: float, random: np.random.Generator) -> np.ndarray:
    values = np.array(image)
    changed = random.random(values.shape) < share
    values[changed] = 255 * random.integers(0, 2, int(changed.sum()))
    return values


def _gaussian_blur(image: Image.Image, side: int, random: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma, radius = 0.3 * ((side - 1) * 0.5 - 1) + 0.8, (side - 1) // 2
    values = np.asarray(image, np.float64)
    blurred = gaussian_filter(values, (sigma, sigma, 0), mode="mirror", truncate=radius / sigma)
    return np.clip(np.rint(blurred), 0, 255).astype(np.uint8)


def _defocus_blur(image: Image.Image, disk: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """disk: its radius in pixels, and the deviation by which its edge is smoothed."""
    from scipy.ndimage import gaussian_filter
    from scipy.signal import fftconvolve

    radius, smooth = disk
    reach = max(8, int(radius))
    across = np.arange(-reach, reach + 1)
    kernel = (across[:, None] ** 2 + across**2 <= radius**2).astype(np.float64)
    kernel = gaussian_filter(kernel / kernel.sum(), smooth, mode="mirror", truncate=(1 if radius <= 8 else 2) / smooth)
    padded = np.pad(_floats(image), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    return _bytes(fftconvolve(padded, kernel[:, :, None], mode="valid", axes=(0, 1)))


def _motion_blur(image: Image.Image, line: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """line: half its length and its deviation in pixels. It is one half of a Gaussian, in a direction within 45 degrees
    of the horizontal, and the edge of the image is repeated, as ImageMagick does."""
    radius, sigma = line
    length = 2 * int(np.ceil(radius)) + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = np.deg2rad(random.uniform(-45, 45))
    steps = [np.ceil(np.arange(length) * part - 0.5).astype(int) for part in (np.sin(angle), np.cos(angle))]
    padded = np.pad(_floats(image), ((length, length), (length, length), (0, 0)), mode="edge")
    height, width, total = image.height, image.width, 0.0
    for weight, down, right in zip(weights, *steps, strict=True):
        top, left = length + down, length + right
        total = total + weight * padded[top : top + height, left : left + width]
    return _bytes(np.asarray(total))


def _zoom_blur(image: Image.Image, zooms: tuple[float, float], random: np.random.Generator) -> np.ndarray:
    """zooms: the end of the factors, which begin at 1, and their step."""
    import torch  # only now, so that --help needs no PyTorch
    from torch.nn.functional import interpolate

    values = torch.from_numpy(_floats(image)).permute(2, 0, 1)[None].float()
    total, factors = values.clone(), np.arange(1, *zooms)
    for factor in factors:
        inner = [int(np.ceil(side / factor)) for side in values.shape[2:]]
        top, left = ((side - most) // 2 for side, most in zip(values.shape[2:], inner, strict=True))
        crop = values[:, :, top : top + inner[0], left : left + inner[1]]
        zoomed = interpolate(crop, [round(side * factor) for side in inner], mode="bilinear", align_corners=True)
        top, left = ((side - most) // 2 for side, most in zip(zoomed.shape[2:], values.shape[2:], strict=True))
        total += zoomed[:, :, top : top + values.shape[2], left : left + values.shape[3]]
    return _bytes((total / (len(factors) + 1))[0].permute(1, 2, 0).numpy())


def _brightness(image: Image.Image, factor: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _contrast(image: Image.Image, factor: float, random: np.random.Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _gamma(image: Image.Image, gamma: float, random: np.random.Generator) -> Image.Image:
    return image.point([int((256 - 1e-3) * (value / 255) ** gamma) for value in range(256)] * 3)


def _saturate(image: Image.Image, more: float, random: np.random.Generator) -> np.ndarray:
    """`more` is added to the saturation of the HSV model; the hue of grey is red."""
    values = _floats(image)
    most, least = values.max(2, keepdims=True), values.min(2, keepdims=True)
    before = np.divide(most - least, most, out=np.zeros_like(most), where=most > 0)
    after = np.clip(before + more, 0, 1)
    coloured = most - np.divide(most - values, before, out=np.zeros_like(values), where=before > 0) * after
    red = np.concatenate([most, most * (1 - after), most * (1 - after)], axis=2)
    return _bytes(np.where(before > 0, coloured, red))


def _stain_deposit(image: Image.Image, most: int, random: np.random.Generator) -> Image.Image:
    """Up to `most` black blots of irregular outline; a single one with `most` 1."""
    result, side = image.copy(), STAINS[most - 1]
    draw = ImageDraw.Draw(result)
    for _ in range(random.integers(1, most + 1)):
        x, y = (random.integers(MARGIN, max(room - side - MARGIN, MARGIN) + 1) + side / 2 for room in image.size)
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        waves = [random.normal(scale=0.5 / n) * np.cos(n * angles + random.uniform(0, 2 * np.pi)) for n in range(1, 6)]
        outline = side / 2 * np.clip(0.8 + 0.4 * np.sum(waves, axis=0), 0.25, 1)
        draw.polygon([*zip(x + outline * np.cos(angles), y + outline * np.sin(angles), strict=True)], fill=(0, 0, 0))
    return result


def _bubble(image: Image.Image, most: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """most: the largest radius in pixels, and the largest number, of translucent white discs."""
    largest, number = most
    layer = Image.new("RGBA", image.size, (255, 255, 255, 0))
    draw = ImageDraw.Draw(layer)
    for _ in range(random.integers(FEWEST_BUBBLES, number + 1)):
        radius = int(random.integers(SMALLEST_BUBBLE, largest + 1))
        x, y = (int(random.integers(radius, max(side - radius, radius) + 1)) for side in image.size)
        for reach, colour in ((radius + BORDER, RIM), (radius, WHITE)):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    result = image.copy()
    result.paste(layer, (0, 0), layer)
    return result


def _black_corner(image: Image.Image, share: float, random: np.random.Generator) -> np.ndarray:
    """Black outside a circle whose radius is `share` of half the shorter side, as a dermatoscope shows it."""
    values = np.array(image)
    y, x = np.ogrid[: image.height, : image.width]
    radius = int(min(image.width // 2, image.height // 2) * share)
    values[(x - image.width // 2) ** 2 + (y - image.height // 2) ** 2 > radius**2] = 0
    return values


def _characters(image: Image.Image, most: tuple[int, int, int], random: np.random.Generator) -> Image.Image:
    """most: the largest number of words, of letters in one, and scale of the font in hundredths."""
    words, letters, scale = most
    result = image.copy()
    draw = ImageDraw.Draw(result)
    for _ in range(random.integers(1, words + 1)):
        number = int(random.integers(FEWEST_LETTERS, letters + 1))
        font = ImageFont.load_default(EM * random.integers(SMALLEST_SCALE, scale + 1))
        x = int(random.integers(MARGIN, max(image.width - 8 * number, MARGIN) + 1))
        y = int(random.integers(MARGIN, max(image.height - MARGIN, MARGIN) + 1))
        text = "".join(random.choice([*string.ascii_lowercase], number))
        draw.text((x, y), text, fill=tuple(map(int, random.integers(0, 256, 3))), font=font, anchor="ls")
    return result


_FUNCTIONS: dict[str, Callable[[Image.Image, Any, np.random.Generator], Image.Image | np.ndarray]] = {
    "pixelate": _pixelate, "jpeg_compression": _jpeg, "gaussian_noise": _gaussian_noise,
    "speckle_noise": _speckle_noise, "impulse_noise": _impulse_noise, "shot_noise": _shot_noise,
    "defocus_blur": _defocus_blur, "motion_blur": _motion_blur, "zoom_blur": _zoom_blur,
    "gaussian_blur": _gaussian_blur, "brightness_up": _brightness, "brightness_down": _brightness,
    "contrast_up": _contrast, "contrast_down": _contrast, "saturate": _saturate, "stain_deposit": _stain_deposit,
    "bubble": _bubble, "black_corner": _black_corner, "characters": _characters, "gamma_corr_up": _gamma,
    "gamma_corr_down": _gamma,
}  # fmt: skip
