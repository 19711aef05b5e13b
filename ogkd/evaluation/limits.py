"""What the bundled small model cannot do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ogkd.data import catalogue
from ogkd.evaluation.collect import Run
from ogkd.evaluation.tested import own_images

PHANTOM_BACKBONE = "PhantomCLIP"
MEANINGLESS = (
    f"{PHANTOM_BACKBONE} knows only the synthetic images of Phantom: on other images its answers mean nothing."
)


def is_phantom(backbone: str) -> bool:
    """Whether a backbone, a name or a folder, is the bundled model."""
    return Path(backbone).name.lower() == PHANTOM_BACKBONE.lower()


def phantom_note(backbone: str) -> str:
    """What the bundled model cannot do; "" for other models."""
    return MEANINGLESS if is_phantom(backbone) else ""


def is_synthetic(run: Run) -> bool:
    """Whether a run's test images are synthetic, so that they show nobody."""
    facts = None if own_images(run.results) else catalogue.load().find(run.dataset)
    return bool(facts and facts.generator)


def meaningless(runs: Iterable[Run]) -> list[str]:
    """A sentence on runs of the bundled model on other images than it knows; [] if there are none."""
    return [MEANINGLESS] if any(is_phantom(run.backbone) and not is_synthetic(run) for run in runs) else []
