"""Small images on disk: pictures with many colours, and masks."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ogkd.phantom.dataset import draw_class
from ogkd.phantom.findings import CLASSES as FINDINGS

SIDE = 24


def picture(name: str) -> Image.Image:
    """An image with many colours, another for each name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))


def mask(name: str) -> Image.Image:
    """A white rectangle on black, another for each name."""
    low, high = sorted(np.random.default_rng(zlib.crc32(name.encode())).choice(SIDE - 4, 2, replace=False) + 2)
    values = np.zeros((SIDE, SIDE), dtype=np.uint8)
    values[low:high, 2 : high + 1] = 255
    return Image.fromarray(values)


def put(folder: Path, paths: Iterable[str], draw=picture) -> None:
    """Write an image to each path below `folder`; a file without an image's suffix gets a few bytes."""
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.suffix.lower() in (".png", ".jpg", ".bmp", ".tif"):
            draw(path).save(place)
        else:
            place.write_bytes(b"not an image")


def numbered(*folders: str, count: int = 4, form: str = "{}.png") -> list[str]:
    """The paths of `count` images in each folder."""
    return [f"{folder}/{form.format(number)}" for folder in folders for number in range(count)]


def phantom_scans(root: Path, names: Sequence[str], seed: int, count: int, file: str) -> Path:
    """The folder `root` with scans/<class>/<file> of Phantom's images, `count` per class; `file` is a format with the
    image's number and the class's name."""
    for name in names:
        folder = root / "scans" / name.replace(" ", "_")
        folder.mkdir(parents=True)
        for number, (image, _) in enumerate(draw_class("phantom", FINDINGS.index(name), seed=seed, count=count)):
            Image.fromarray(image).save(folder / file.format(number=number, name=name))
    return root
