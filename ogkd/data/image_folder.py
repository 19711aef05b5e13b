"""ImageFolder: your own images in <root>/<DATASET.FOLDER>/<class>/**/<image>, without any code."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core import UserError, expanded, write_json
from ogkd.core.opening import open_images
from ogkd.core.places import command
from ogkd.core.words import sentence, without_names
from ogkd.data.beside import beside_by_content
from ogkd.data.biomedical import BiomedicalDataset
from ogkd.data.findings import Findings, sentences
from ogkd.data.layout import Layout, read_layout
from ogkd.data.patients import known_patients, one_each, patient_warnings
from ogkd.data.splits import (
    Split,
    by_class,
    check_images,
    class_names,
    part_of_image,
    read_split,
    renamed,
    split_file,
    write_split,
)
from ogkd.data.splitting import divide
from ogkd.data.trial_images import without_test

__all__ = ["ImageFolder"]


@DATASET_REGISTRY.register()
class ImageFolder(BiomedicalDataset):
    """A folder with one subfolder per class; class names are the sorted folder names, with spaces for underscores.

    split_<folder>.json in the folder says which images are for training, validation and testing. If it does not exist,
    one is made and stored, so that images added later do not move others between training and test. It is made of the
    folders train, val and test, above or below the class folders (ogkd/data/layout.py); or else by patient, where DICOM
    files or patients_<folder>.json name them; or else image by image: with several images per patient, first make a
    split by patient (scripts/split.py).
    `warnings` are phrases about images that are not used, or should not be. `looks` are the images of each class as
    they were opened, by their paths in the folder, `parts` the part of each in the split, and `patients` the patients.
    """

    dataset_dir = ""

    def __init__(self, cfg: CfgNode) -> None:
        name = cfg.DATASET.get("FOLDER", "")
        if not name:
            raise UserError("ImageFolder needs DATASET.FOLDER: name the folder under --root that has a folder a class.")
        folder = Path(expanded(cfg.DATASET.ROOT or ".")).absolute() / name
        if not folder.is_dir():
            raise UserError(f"The data folder {folder} is missing: create it with one folder of images per class.")
        self.dataset_dir = self.image_dir = str(folder)
        self.split_path = str(split_file(folder))
        layout = read_layout(folder)
        patients = known_patients(folder, layout.listing.images)
        for line in sentences(patients.notes):
            print(line)
        stored = Path(self.split_path).exists()
        whole = self._stored(layout) if stored else self._made(layout, patients.of)
        trial = cfg.DATASET.get("TRIAL", "")
        split = without_test(whole, trial)
        self._finish(cfg, split, patients.of)
        of_class = {name: [f"{folder}/{path}" for path in paths] for name, paths in by_class(split).items()}
        cache = cfg.get("FEATURES", {}).get("CACHE_DIR")
        opened = open_images(chain.from_iterable(of_class.values()), cfg.get("INPUT", {}).get("FRAME", 0), cache)
        if not stored and not trial:  # which opens too few images to know that all can be read
            self._store(split, patients.of)
        seen = {look.path: look for look in opened}
        self.looks = {
            name: [seen[path]._replace(path=path.removeprefix(f"{folder}/")) for path in paths]
            for name, paths in of_class.items()
        }
        self.parts, self.patients = part_of_image(split), patients.of
        review = layout.review(whole)
        # Cards, tables and pages repeat these, so they name no files, whose names may be patients'.
        self.notes += [sentence(note.partition(" (")[0]) for note in review.notes]
        self.warnings += map(without_names, [*review.faults, *review.warnings])
        self.warnings += beside_by_content({name: [look.mask for look in looks] for name, looks in self.looks.items()})
        self.warnings += patient_warnings(split, patients.of)

    def _stored(self, layout: Layout) -> Split:
        split = read_split(self.split_path)
        remedy = f"put them back, or split again with `{command('split', self.image_dir, '--replace')}`"
        check_images(self.image_dir, split, self.split_path, remedy)
        Findings(faults=layout.misread(class_names(split))).check()
        return split

    def _made(self, layout: Layout, patients: Mapping[str, str]) -> Split:
        Findings(faults=renamed(self.image_dir)).check()
        layout.check()
        split = divide(self.image_dir, layout.classes, patients, layout.parts)
        check_images(self.image_dir, split, self.image_dir, "run this again")
        return split

    def _store(self, split: Split, patients: Mapping[str, str]) -> None:
        """Store a split, of which every image can be read: with others, it would have to be deleted once these are
        replaced."""
        try:
            write_split(split, self.split_path)
            if patients:
                images = [item.path for part in split.values() for item in part]
                write_json(one_each(patients, images), split_file(self.image_dir, "patients"))
        except OSError as error:
            print(
                f"The split could not be stored as {self.split_path} ({error.strerror}); it is the same in every run "
                "as long as the images stay the same."
            )
        else:
            print(f"Stored the split made of {self.image_dir} as {self.split_path}.")
