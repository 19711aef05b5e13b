"""Training of the methods shown: their curves and the images drawn for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.reports.page.canvas import Drawing
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.gather import Material
from ogkd.reports.page.images import Thumbnail, frame_of, image_folder, thumbnail, training_images
from ogkd.reports.page.learning import learning_curves
from ogkd.reports.page.logs import training_curves

PER_CLASS = 6  # training images shown per class
CLASSES_SHOWN = 24  # maximum number of classes with training images


@dataclass
class Training:
    """curves: one figure per method. images: (class, thumbnails, number of further images drawn)."""

    curves: list[Drawing]
    images: list[tuple[str, list[Thumbnail], int]]
    images_of: str


def training(anchor: str, shown: Sequence[Evaluation], material: Material) -> Training | None:
    """Curves of the methods shown and the training images of the first one; None if there are neither."""
    curves: list[Drawing] = []
    for test in shown:
        seeds = []
        for run in test.runs:
            try:
                seeds.append(training_curves(run.path / "log.txt"))
            except OSError as error:
                material.notes.unreadable(f"{material.shown(run.path)}/log.txt", f"log.txt cannot be read ({error}).")
        seeds = [one for one in seeds if one]
        if seeds:
            curves.append(
                Drawing(
                    f"{anchor}-training{len(curves) + 1}",
                    f"Training of {test.name}",
                    f"Loss, accuracy and loss terms over the epochs, of {len(seeds)} seeds.",
                    learning_curves(seeds),
                )
            )
    images: list[tuple[str, list[Thumbnail], int]] = []
    if shown and not material.notes.private:
        images = _drawn_images(shown[0].runs[0], material)
    if not curves and not images:
        return None
    run = shown[0].runs[0]
    return Training(curves, images, f"seed {run.seed}, {run.shots if run.shots > 0 else 'all'} per class")


def _drawn_images(run: Run, material: Material) -> list[tuple[str, list[Thumbnail], int]]:
    try:
        drawn = training_images(run)
    except UserError as error:
        material.notes.unreadable(f"{material.shown(run.path)}/split.json", f"{material.shown(run.path)}/{error}")
        return []
    folder = image_folder(run)
    found = []
    for classname, names in list(drawn.items())[:CLASSES_SHOWN]:
        pictures = [thumbnail(folder, name, frame_of(run)) for name in names[:PER_CLASS]]
        found.append((classname, pictures, len(names) - len(pictures)))
    return found if any(one.uri for _, pictures, _ in found for one in pictures) else []
