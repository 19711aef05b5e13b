"""A folder of one's own images: how ImageFolder is asked for it, and what scripts/check_data.py says of it."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from ogkd.data.findings import sentences
from ogkd.data.inspection import inspect
from ogkd.data.layout import read_layout


def config(root: Path, folder: str = "scans", seed: int = 1, shots: int = -1) -> CfgNode:
    dataset = {"ROOT": str(root), "NAME": "ImageFolder", "NUM_SHOTS": shots, "SUBSAMPLE_CLASSES": "all"}
    return CfgNode({"SEED": seed, "DATASET": dataset | {"FOLDER": folder}})


def find_images(folder: Path) -> dict[str, list[str]]:
    """Class folder -> its images; UserError if the layout has faults."""
    layout = read_layout(folder)
    layout.check()
    return layout.classes


def faults(folder: Path) -> str:
    return "\n".join(sentences(inspect(folder).faults))


def remarks(folder: Path) -> str:
    """What is worth knowing but no fault."""
    seen = inspect(folder)
    return "\n".join(sentences([*seen.warnings, *seen.notes]))
