"""Draws the findings: twelve in four related groups, and five grades of a progressive one.

A finding's painter adds the finding to a float image (H, W) in about [0, 1], inside `body` (H, W), and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy  # imports ndimage when it is first used, so not where the images already exist
from numpy.random import Generator

Array = np.ndarray
Painter = Callable[[Generator, Array, Array], None]

# In the order of their labels: the first six are base classes, the rest novel ones, and each half has every group.
GROUPS = {
    "smooth mass": "mass",
    "simple cyst": "cyst",
    "clustered calcifications": "calcification",
    "ground glass opacity": "opacity",
    "spiculated mass": "mass",
    "septated cyst": "cyst",
    "lobulated mass": "mass",
    "ring enhancing cyst": "cyst",
    "linear calcifications": "calcification",
    "reticular opacity": "opacity",
    "scattered calcifications": "calcification",
    "nodular opacity": "opacity",
}
CLASSES = list(GROUPS)
# In order of severity.
GRADES = ["no fibrosis", "minimal fibrosis", "mild fibrosis", "moderate fibrosis", "severe fibrosis"]


class Place:
    """Polar coordinates around a random point inside the body."""

    def __init__(self, rng: Generator, body: Array, radius: float) -> None:
        height, width = body.shape
        inside = np.argwhere(scipy.ndimage.gaussian_filter(body, radius / 2) > 0.9)
        if not len(inside):
            inside = np.argwhere(body > 0.5)
        self.y, self.x = inside[rng.integers(len(inside))] + rng.uniform(-0.5, 0.5, 2)
        ys, xs = np.mgrid[:height, :width]
        squeeze, turn = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
        dy, dx = ys - self.y, xs - self.x
        u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
        self.u, self.v = u * squeeze, v / squeeze
        self.distance, self.angle = np.hypot(self.u, self.v), np.arctan2(self.v, self.u)


def disc(distance: Array, radius: Array | float, softness: float) -> Array:
    """1 inside the radius, 0 outside, with an edge of `softness` pixels."""
    return 1 / (1 + np.exp(np.clip((distance - radius) / softness, -30, 30)))


def smooth_mass(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(7, 14)
    place = Place(rng, body, radius)
    image += rng.uniform(0.16, 0.34) * disc(place.distance, radius, rng.uniform(0.5, 1.2)) * body


def lobulated_mass(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(8, 14)
    place = Place(rng, body, radius)
    waves = 1 + rng.uniform(0.14, 0.26) * np.sin(rng.integers(3, 7) * place.angle + rng.uniform(0, 6.3))
    image += rng.uniform(0.16, 0.34) * disc(place.distance, radius * waves, rng.uniform(0.5, 1.2)) * body


def spiculated_mass(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(5, 9)
    place = Place(rng, body, radius)
    contrast = rng.uniform(0.18, 0.34)
    shape = disc(place.distance, radius, rng.uniform(0.8, 1.6))
    for angle in np.linspace(0, 2 * np.pi, rng.integers(8, 15), endpoint=False):
        angle += rng.uniform(-0.2, 0.2)
        along = place.u * np.cos(angle) + place.v * np.sin(angle)
        across = place.v * np.cos(angle) - place.u * np.sin(angle)
        length = radius * rng.uniform(1.5, 2.4)
        ray = np.exp(-((across / rng.uniform(0.5, 0.9)) ** 2)) * (along > 0) * disc(along, length, 1.5)
        shape = np.maximum(shape, 0.9 * ray)
    image += contrast * shape * body


def _cyst(rng: Generator, image: Array, body: Array, radius: float) -> tuple[Place, Array]:
    place = Place(rng, body, radius)
    inside = disc(place.distance, radius, rng.uniform(0.5, 1.0)) * body
    image -= rng.uniform(0.16, 0.28) * inside
    return place, inside


def simple_cyst(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(7, 14)
    place, _ = _cyst(rng, image, body, radius)
    wall = np.exp(-(((place.distance - radius) / 0.8) ** 2)) * body
    image += rng.uniform(0.0, 0.08) * wall


def septated_cyst(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(9, 15)
    place, inside = _cyst(rng, image, body, radius)
    contrast = rng.uniform(0.2, 0.32)
    for _ in range(rng.integers(2, 4)):
        angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.4, 0.4) * radius
        across = place.v * np.cos(angle) - place.u * np.sin(angle) - offset
        image += contrast * np.exp(-((across / 0.8) ** 2)) * inside


def ring_enhancing_cyst(rng: Generator, image: Array, body: Array) -> None:
    radius = rng.uniform(8, 14)
    place, _ = _cyst(rng, image, body, radius)
    thickness = rng.uniform(1.4, 2.6)
    image += rng.uniform(0.28, 0.45) * np.exp(-(((place.distance - radius) / thickness) ** 2)) * body


def _specks(rng: Generator, image: Array, body: Array, points: Array) -> None:
    height, width = body.shape
    grains = np.zeros_like(image)
    for y, x in np.round(points).astype(int):
        if 0 <= y < height and 0 <= x < width:
            grains[y, x] = max(grains[y, x], rng.uniform(0.6, 1.0))
    grains = scipy.ndimage.gaussian_filter(grains, rng.uniform(0.55, 0.8))
    image += rng.uniform(0.35, 0.6) * np.clip(grains / 0.22, 0, 1) * body


def clustered_calcifications(rng: Generator, image: Array, body: Array) -> None:
    spread = rng.uniform(3.5, 6.5)
    place = Place(rng, body, 2 * spread)
    _specks(rng, image, body, np.array([place.y, place.x]) + rng.normal(0, spread, (rng.integers(10, 24), 2)))


def linear_calcifications(rng: Generator, image: Array, body: Array) -> None:
    place = Place(rng, body, 10)
    angle, bend = rng.uniform(0, np.pi), rng.uniform(-0.012, 0.012)
    along = np.linspace(-1, 1, rng.integers(9, 18)) * rng.uniform(14, 26)
    across = bend * along**2 + rng.normal(0, 0.6, len(along))
    ys = place.y + along * np.sin(angle) + across * np.cos(angle)
    xs = place.x + along * np.cos(angle) - across * np.sin(angle)
    _specks(rng, image, body, np.stack([ys, xs], 1))


def scattered_calcifications(rng: Generator, image: Array, body: Array) -> None:
    inside = np.argwhere(body > 0.8)
    _specks(rng, image, body, inside[rng.integers(len(inside), size=rng.integers(12, 28))])


def _region(rng: Generator, body: Array) -> Array:
    """A soft-edged, irregular region of the body."""
    radius = rng.uniform(15, 26)
    place = Place(rng, body, radius / 2)
    waves = sum(rng.uniform(0, 0.18) * np.sin(k * place.angle + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    return disc(place.distance, radius * (1 + waves), rng.uniform(2.5, 5)) * body


def ground_glass_opacity(rng: Generator, image: Array, body: Array) -> None:
    veil = 0.8 + 0.4 * scipy.ndimage.gaussian_filter(rng.normal(size=image.shape), 5) * 10
    image += rng.uniform(0.13, 0.26) * _region(rng, body) * np.clip(veil, 0.4, 1.3)


def reticular_opacity(rng: Generator, image: Array, body: Array) -> None:
    waves = scipy.ndimage.gaussian_filter(rng.normal(size=image.shape), rng.uniform(1.8, 2.6))
    lines = np.exp(-((waves / (0.28 * waves.std())) ** 2))
    image += rng.uniform(0.2, 0.36) * _region(rng, body) * lines


def nodular_opacity(rng: Generator, image: Array, body: Array) -> None:
    region = _region(rng, body)
    inside = np.argwhere(region > 0.4)
    if not len(inside):
        inside = np.argwhere(body > 0.8)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]]
    nodules = np.zeros_like(image)
    for y, x in inside[rng.integers(len(inside), size=rng.integers(8, 18))]:
        nodules = np.maximum(nodules, disc(np.hypot(ys - y, xs - x), rng.uniform(1.4, 2.8), 0.6))
    image += rng.uniform(0.2, 0.36) * nodules * body


def fibrosis(rng: Generator, image: Array, body: Array, grade: int) -> None:
    """Draw a mesh that grows from the rim of the body inwards; neighbouring grades overlap a little in depth."""
    if grade == 0:
        return
    depth = 7.0 * (grade + rng.uniform(-0.45, 0.45))
    edge = scipy.ndimage.distance_transform_edt(body > 0.5)
    ys, xs = np.mgrid[: image.shape[0], : image.shape[1]] - (image.shape[0] - 1) / 2
    ragged = sum(rng.uniform(0, 0.15) * np.sin(k * np.arctan2(ys, xs) + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    waves = scipy.ndimage.gaussian_filter(rng.normal(size=image.shape), rng.uniform(1.4, 1.9))
    lines = np.exp(-((waves / (0.3 * waves.std())) ** 2))
    image += rng.uniform(0.24, 0.38) * disc(edge, depth * (1 + ragged), 1.2) * lines * body


PAINTERS: dict[str, Painter] = {name: globals()[name.replace(" ", "_")] for name in CLASSES}
PAINTERS |= {name: partial(fibrosis, grade=grade) for grade, name in enumerate(GRADES)}
