"""Finds images that are near copies of others, and frames of videos, by comparing thumbnails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ogkd.core.opening import THUMB
from ogkd.data.first_look import numbered

MOST = 4000  # images that are compared, each with each: 6.4 s on one thread, and 0.45 s for 1,000
ROWS = 500  # images that are compared with all at once
COPY = 0.9  # the correlation from which two images are one; other images of one kind rarely reach 0.7
FRAME = 0.5  # the usual correlation of a frame with the next, at least
ENOUGH = 10  # images whose mean shows what they share
FLAT = 2.0  # grey levels of detail that an image needs to be compared


def details(thumbnails: Sequence[bytes]) -> np.ndarray:
    """Return thumbnails without their soft shades, in units of their spread, (N, THUMB, THUMB) float32; 0 if flat.

    Brightness and contrast do not count, and since values are clipped, one sharp edge does not decide.
    """
    grey = np.stack([np.frombuffer(thumb, np.uint8).reshape(THUMB, THUMB) for thumb in thumbnails]).astype(np.float32)
    padded = np.pad(grey, ((0, 0), (2, 2), (2, 2)), mode="edge")
    fine = grey - np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(1, 2)).mean((-1, -2))
    spread = fine.std((1, 2), keepdims=True)
    return np.where(spread < FLAT, 0, np.clip(fine / np.maximum(spread, FLAT), -3, 3))


def _vectors(squares: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what is particular to each image as vectors of length 1, without what all images of one kind share, such
    as the outline of a chest or the rim of a fundus."""
    own = np.where(squares.any((1, 2), keepdims=True), squares - mean, 0).reshape(len(squares), -1)
    return own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-6)


def _mean(squares: np.ndarray) -> np.ndarray:
    return squares.mean(0) if len(squares) >= ENOUGH else np.zeros_like(squares[0])


def near_copies(squares: np.ndarray) -> Iterator[tuple[int, int]]:
    """Yield pairs i < j of images, given by their `details`, that are the same, perhaps saved again, resized, brighter,
    turned or mirrored."""
    mean = _mean(squares)
    vectors = _vectors(squares, mean)
    for start in range(0, len(squares), ROWS):
        block = squares[start : start + ROWS]
        best = np.full((len(block), len(vectors)), -1.0, np.float32)
        for mirrored in (False, True):
            for turns in range(4):
                there = _vectors(_turned(block, turns, mirrored), mean) @ vectors.T
                back = _vectors(_turned(squares, turns if mirrored else -turns, mirrored), mean)
                # upright in one of the two at least, so that what turned images share with each other does not count
                np.maximum(best, np.minimum(there, vectors[start : start + ROWS] @ back.T), out=best)
        for row, other in zip(*np.nonzero(best > COPY), strict=True):
            if start + row < other:
                yield int(start + row), int(other)


def _turned(squares: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    return np.rot90(squares[:, :, ::-1] if mirrored else squares, turns, (1, 2))


def series(paths: Sequence[str], squares: np.ndarray) -> list[list[str]]:
    """Return the series of images with running numbers whose neighbours are alike, as the frames of a video are."""
    vectors = _vectors(squares, _mean(squares))
    runs = []
    for places in numbered(paths).values():
        order = np.array(places)
        ahead = np.roll(np.random.default_rng(0).permutation(len(vectors)), 1)[: 10 * len(order)]
        others = np.einsum("ij,ij->i", vectors[np.resize(order, len(ahead))], vectors[ahead])
        near = np.einsum("ij,ij->i", vectors[order[:-1]], vectors[order[1:]])
        others = others[~np.isin(ahead, order)] if len(order) < len(vectors) / 2 else others
        if len(others) and np.median(near) > max(FRAME, np.quantile(others, 0.9)):
            runs.append([paths[place] for place in order])
    return runs
