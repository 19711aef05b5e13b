"""ImageFolder: your own images in <root>/<DATASET.FOLDER>/<class>/**/<image>, without any code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core import UserError, expanded
from ogkd.data.beside import masks_among
from ogkd.data.biomedical import BiomedicalDataset
from ogkd.data.folders import SUFFIXES, find_images, make_split, split_of
from ogkd.data.layout import Layout, read_layout, sentence
from ogkd.data.opening import open_images
from ogkd.data.patient_split import divide
from ogkd.data.patients import known_patients, one_each, patient_warnings, write_patients
from ogkd.data.splits import Split, by_class, check_images, check_parts, class_names, read_split, write_split

__all__ = ["SUFFIXES", "ImageFolder", "find_images", "make_split"]


@DATASET_REGISTRY.register()
class ImageFolder(BiomedicalDataset):
    """A folder with one subfolder per class; class names are the sorted folder names, with spaces for underscores.

    split_<folder>.json in the folder says which images are for training, validation and testing. If it does not exist,
    one is made and stored, so that images added later do not move others between training and test. It is made of the
    folders train, val and test, above or below the class folders (ogkd/data/layout.py); or else by patient, where DICOM
    files or patients_<folder>.json name them; or else image by image: with several images per patient, first make a
    split by patient (scripts/split.py).
    `warnings` are phrases about images that are not used, or should not be.
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
        self.split_path = str(folder / f"split_{folder.name}.json")
        layout = read_layout(folder)
        patients = known_patients(folder, layout.listing.images)
        print(*patients.notes, sep="\n", end="\n" * bool(patients.notes))
        stored = Path(self.split_path).exists()
        split = self._stored(layout) if stored else self._made(cfg, layout, patients.of)
        self._finish(cfg, split)
        faults, warnings = layout.review(split)
        self.notes += [sentence(note) for note in layout.notes]
        self.warnings += [*faults, *warnings, *filter(None, [masks_among(folder, by_class(split))])]
        self.warnings += patient_warnings(split, patients.of)

    def _stored(self, layout: Layout) -> Split:
        split = read_split(self.split_path)
        remedy = "put them back, or delete the split file for a new split"
        check_images(self.image_dir, split, self.split_path, remedy)
        if fault := layout.misread(class_names(split)):
            raise UserError(sentence(fault))
        return split

    def _made(self, cfg: CfgNode, layout: Layout, patients: Mapping[str, str]) -> Split:
        layout.check()
        split = divide(self.image_dir, layout.classes, patients, layout.parts) if patients else split_of(layout)
        # A split that lists unreadable images would have to be deleted once they are replaced.
        paths = [f"{self.image_dir}/{path}" for of_class in layout.classes.values() for path in of_class]
        open_images(paths, cfg.get("INPUT", {}).get("FRAME", 0))
        check_parts(self.image_dir, split, self.image_dir)
        try:
            write_split(split, self.split_path)
            if patients:
                write_patients(
                    one_each(patients, (item.path for part in split.values() for item in part)), self.image_dir
                )
        except OSError as error:
            print(
                f"The split could not be stored as {self.split_path} ({error.strerror}); it is the same in every run "
                "as long as the images stay the same."
            )
        else:
            print(f"Stored the split made of {self.image_dir} as {self.split_path}.")
        return split
