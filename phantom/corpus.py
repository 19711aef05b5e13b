"""The images for pre-training PhantomCLIP: every finding in every modality. None of them is in a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np

from ogkd.phantom.findings import CLASSES, GRADES, Array
from ogkd.phantom.images import MODALITIES, draw_with_mask

SEED = 20_000  # far from the data sets' seeds
CHUNK = 500
FINDINGS = [*CLASSES, *GRADES]  # drawn equally often
SHARES = {"sonogram": 0.4, "tomogram": 0.2, "radiograph": 0.2, "section": 0.2}


class Corpus(NamedTuple):
    """`finding` and `modality` index FINDINGS and MODALITIES; the last axis of `masks` is packed to bits."""

    images: Array  # (N, 96, 96, 3) uint8
    masks: Array  # (N, 96, 12) uint8
    finding: Array  # (N,)
    modality: Array  # (N,)


def chunk(number: int) -> Corpus:
    """Draw CHUNK images, always the same ones for the same number."""
    rng = np.random.default_rng([SEED, number])
    finding = rng.integers(len(FINDINGS), size=CHUNK)
    kinds = list(MODALITIES)
    modality = rng.choice(len(kinds), size=CHUNK, p=[SHARES[kind] for kind in kinds])
    drawn = (draw_with_mask(rng, FINDINGS[f], kinds[m]) for f, m in zip(finding, modality, strict=True))
    images, masks = zip(*drawn, strict=True)
    colour = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return Corpus(np.stack(colour), np.packbits(np.stack(masks), axis=-1), finding, modality)


def make(images: int, progress: Callable[[Iterator], Iterable] = iter) -> Corpus:
    """Draw the first `images` of the corpus (a multiple of CHUNK) on all cores."""
    with Pool() as pool:
        chunks = list(progress(pool.imap(chunk, range(images // CHUNK))))
    return Corpus(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))
