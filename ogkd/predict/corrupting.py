"""Testing what a run learned on corrupted copies of its test images, without training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from ogkd.core import UserError, atomic_path, progress, write_json
from ogkd.core.images import read_image
from ogkd.core.locks import locked
from ogkd.core.words import counted
from ogkd.data.corruptions import Recipe, corrupted
from ogkd.data.splits import is_below
from ogkd.evaluation.corrupted import FOLDER, SETTINGS, path_of, predictions_hash, settings_of
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.predictor import Predictor

READERS = 4  # images read and corrupted at a time
MEMORY = 2**30  # bytes of prepared images that are kept instead of read again for each kind and level
CLOSE = 0.05  # how far logits may differ from those of the run's test, as a share of their range: bf16, other devices
SAMPLE = 8  # images whose time predicts that of all
GAP, LABELS = 4, 130  # pixels of a contact sheet

Part = tuple[str, int]


class Corruptor:
    """What a run learned, and its test images as the model sees them: resized and cropped, not yet normalised.

    images: the folder of the images. recipe: that of their modality. seed: of the corruptions' random numbers.

    Raises UserError if an image is missing, or if clean images have other answers than in the run's test.
    """

    def __init__(
        self, run: Path, predictor: Predictor, images: Path, recipe: Recipe, seed: int = 0, batch: int = 0
    ) -> None:
        self.run, self.predictor, self.images, self.recipe, self.seed = run, predictor, images, recipe, seed
        self.batch = batch or predictor.images_at_once
        self.clean = Predictions.load(run / "predictions.npz")
        if self.clean.classnames != predictor.classnames:
            raise UserError(f"{run} was tested on other classes than it was trained on: give the run that trained.")
        missing = [name for name in self.clean.images if not is_below(name) or not (images / name).is_file()]
        if missing:
            raise UserError(
                f"{counted(len(missing), 'test image')} of {run} {'is' if len(missing) == 1 else 'are'} not in "
                f"{images}, such as {missing[0] or 'one without a name'}: give the folder of the images with --images."
            )
        self._views: dict[str, np.ndarray] = {}
        self.check()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        view = self.view(self.clean.images[0])
        return view.height, view.width

    def view(self, name: str) -> Image.Image:
        """A test image as the model sees it."""
        if name in self._views:
            return Image.fromarray(self._views[name])
        view = self.predictor.view(read_image(self.images / name, self.predictor.frame))
        values = np.asarray(view)
        if values.nbytes * len(self.clean) <= MEMORY:
            self._views[name] = values
        return view

    def worse(self, name: str, kind: str, level: int) -> Image.Image:
        """A test image, corrupted."""
        return corrupted(self.view(name), name, kind, level, self.recipe, self.seed)

    def check(self) -> None:
        """Raise UserError if the first clean images have other logits than in the run's test."""
        names = self.clean.images[:SAMPLE]
        stored = self.clean.logits[: len(names)]
        logits = self.predictor.of_views([self.view(name) for name in names])
        if np.abs(logits - stored).max() > CLOSE * max(1.0, float(np.ptp(self.clean.logits))):
            raise UserError(
                f"The images in {self.images} have other answers than in the test of {self.run}: they have changed "
                "since, or are others. Give the folder of the images with --images, or test the run again."
            )

    def estimate(self, parts: Sequence[Part]) -> float:
        """The seconds that these kinds and levels will take, from one image of each and the model's on a few."""
        names = self.clean.images[:SAMPLE]
        started = time.perf_counter()
        self.predictor.of_views([self.view(name) for name in names])
        encoded = time.perf_counter()
        for part in parts:
            self.worse(names[0], *part)
        of_images = (encoded - started) / len(names) * len(parts) + time.perf_counter() - encoded
        return of_images * len(self.clean)

    def logits(self, kind: str, level: int) -> Iterator[np.ndarray]:
        """The logits of the corrupted images, batch by batch, in the order of the run's test."""
        with ThreadPoolExecutor(READERS) as pool:
            names = iter(self.clean.images)
            while batch := list(islice(names, self.batch)):
                yield self.predictor.of_views(list(pool.map(lambda name: self.worse(name, kind, level), batch)))

    def settings(self) -> dict[str, Any]:
        """What decides the predictions, besides the kind and the level."""
        return {
            "modality": self.recipe.modality, "seed": self.seed, "size": list(self.size),
            "predictions": predictions_hash(self.run),
        }  # fmt: skip

    def todo(self, parts: Sequence[Part], rerun: bool = False) -> list[Part]:
        """Those kinds and levels that are to be tested: the ones that are not stored yet, with `rerun` all.

        Raises UserError if tests with other settings are stored, unless `rerun` replaces them.
        """
        stored, settings = settings_of(self.run), self.settings()
        if stored is not None and stored != settings and not rerun:
            other = ", ".join(f"{key} {stored.get(key)}" for key in settings if stored.get(key) != settings[key])
            raise UserError(
                f"{self.run / FOLDER} holds a test with other settings ({other}): add --rerun to replace it."
            )
        return [part for part in parts if rerun or stored is None or not path_of(self.run, *part).is_file()]

    def test(self, parts: Sequence[Part], rerun: bool = False) -> None:
        """Test on those kinds and levels that are to be tested, see `todo`.

        Each is stored as soon as it is done, so a test that is stopped goes on from there.
        """
        folder, settings = self.run / FOLDER, self.settings()
        folder.mkdir(exist_ok=True)
        with locked(folder / ".lock", f"the test on corrupted images in {folder}"):
            todo = self.todo(parts, rerun)
            same = settings_of(self.run) == settings
            for path in [path_of(self.run, *part) for part in todo] if same else folder.glob("*/level*.npz"):
                path.unlink(missing_ok=True)
            write_json(settings, folder / SETTINGS)
            total = len(todo) * len(self.clean)
            with progress(desc="corrupt", total=total, unit="image") as done:
                for kind, level in todo:
                    pieces = []
                    for piece in self.logits(kind, level):
                        pieces.append(piece)
                        done.update(len(piece))
                    self._save(kind, level, np.concatenate(pieces))

    def _save(self, kind: str, level: int, logits: np.ndarray) -> None:
        replace(self.clean, logits=logits).save(path_of(self.run, kind, level))

    def sheet(self, parts: Sequence[Part], path: Path) -> None:
        """Write a picture of the first test image: clean, and by kind (rows) and level."""
        name, kinds = self.clean.images[0], dict.fromkeys(kind for kind, _ in parts)
        levels = sorted({level for _, level in parts})
        clean = self.view(name)
        width, height = clean.width + GAP, clean.height + GAP
        sheet = Image.new("RGB", (LABELS + width * (len(levels) + 1), height * len(kinds)), "white")
        draw = ImageDraw.Draw(sheet)
        for row, kind in enumerate(kinds):
            draw.text((GAP, row * height + clean.height // 2), kind, fill="black")
            sheet.paste(clean, (LABELS, row * height))
            for column, level in enumerate(levels, 1):
                sheet.paste(self.worse(name, kind, level), (LABELS + column * width, row * height))
        with atomic_path(path) as temporary:
            sheet.save(temporary, format="PNG")
