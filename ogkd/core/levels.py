"""Turns stored numbers of any depth into 8-bit levels."""

from __future__ import annotations

import numpy as np

CENTRE = (2.5, 97.5)  # percentiles that markers and hot pixels do not reach
DEPTHS = (8, 10, 12, 14)  # bits per sample of devices; files declare 16 for all of them


def stretched(values: np.ndarray, used: np.ndarray | None = None) -> np.ndarray:
    """Scale numbers to 8 bits, from the smallest (0) to the largest (255); all 0 if they are equal.

    Outliers, which lie further from the central 95 % than these span, do not count, so that a hot pixel or a burnt-in
    marker does not decide the contrast. If most numbers are equal, all of them count.

    used: a mask (of the values' shape) of those that decide; None for all.
    """
    counted = values if used is None else values[used]
    if not counted.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(counted, CENTRE)
    if high > low:
        counted = counted[(counted >= 2 * low - high) & (counted <= 2 * high - low)]
    return scaled(values, counted.min(), counted.max())


def scaled(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Scale numbers to 8 bits, from `black` (0) to `white` (255), clipping those beyond."""
    if values.dtype == np.uint8 and (black, white) == (0, 255):
        return values
    if black == white:
        return np.zeros(values.shape, np.uint8)
    levels = (values.astype(np.float64) - float(black)) / (float(white) - float(black)) * 255
    return levels.round().clip(0, 255).astype(np.uint8)


def full_scale(values: np.ndarray) -> int:
    """The largest value of the fewest usual bits that hold 16-bit colours: 255 for 8 bits, 4095 for 12, else 65535."""
    largest = int(values.max(initial=0))
    return next((2**bits - 1 for bits in DEPTHS if largest < 2**bits), 65535)


def upper_bits(values: np.ndarray) -> np.ndarray:
    """Scale 16-bit colours to 8 bits by `full_scale`; of all 16 bits, the upper byte, as Pillow does."""
    full = full_scale(values)
    return (values >> 8).astype(np.uint8) if full == 65535 else scaled(values, 0, full)
