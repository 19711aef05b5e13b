"""The base class of all data sets here: a folder of images and a split file, from which few shots are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, Datum, build_dataset
from ogkd.core import UserError, expanded
from ogkd.data.catalogue import PARTS, load, own_folder
from ogkd.data.given import NamedClasses
from ogkd.data.patients import read_patients
from ogkd.data.same_classes import places
from ogkd.data.sampling import BALANCED, draw_shots, notes_on_draw, take_classes
from ogkd.data.splits import Item, Split, check_images, class_names, fingerprint, read_split
from ogkd.data.trial_images import with_trial, without_test

SUBSETS = ("all", "base", "new")
FEWEST_CLASSES = 4  # for base-to-novel: with fewer, one half is a single class, which cannot be confused with another


class BiomedicalDataset(NamedClasses):
    """Images in <root>/<dataset_dir>/<dataset_dir>, the split in <root>/<dataset_dir>/split_<dataset_dir>.json.

    Reads DATASET.ROOT, DATASET.NUM_SHOTS (per class; -1: all images), DATASET.DRAW (see `draw_shots`; the balanced draw
    is of all classes, as published, the others are of those of the subset), DATASET.SUBSAMPLE_CLASSES and SEED. Besides
    Dassl's attributes it has `image_dir` (str), `fingerprint` (SHA-256 of the whole split, before drawing),
    `all_classnames` (including held-out ones), `prompts_name` (the name of its file of teacher prompts) and `notes`
    (sentences about the drawn images that readers of the results must know) and `warnings` (phrases on why results on
    these images may be wrong), and `calibration`: the validation images for temperature and thresholds, None if they
    are the drawn ones, `val`. By TEST.CALIBRATE_ON these are the drawn ones or all of the split; "auto" takes all of
    one's own images, and for the data sets of the catalogue the drawn ones, as always.

    A trial of a search, DATASET.TRIAL, is tested on validation or training images (ogkd/data/trial_images.py); of the
    test images it has neither labels nor names, and none is opened.

    If DATASET.TEST_ON names another data set, this one has that set's test images and fingerprint, and the images get
    the labels that their classes have here; `tested` is the other data set, otherwise this one.
    Raises UserError if a setting, the split file or an image is wrong.
    """

    def __init__(self, cfg: CfgNode) -> None:
        root = Path(expanded(cfg.DATASET.ROOT or ".")).absolute()
        name = self.dataset_dir
        self.dataset_dir = str(root / name)
        self.image_dir = str(root / name / name)
        self.split_path = str(root / name / f"split_{name}.json")
        facts = load().find(name)
        split = self._read(facts.remedy(cfg.DATASET.ROOT or ".") if facts else "put it there")
        self._finish(cfg, without_test(split, cfg.DATASET.get("TRIAL", "")), read_patients(self.image_dir))

    def _read(self, remedy: str) -> Split:
        for what, path in (("image folder", self.image_dir), ("split file", self.split_path)):
            if not Path(path).exists():
                raise UserError(f"The {what} {path} is missing: {remedy}.")
        split = read_split(self.split_path)
        check_images(self.image_dir, split, self.split_path, remedy)
        return split

    def _finish(self, cfg: CfgNode, split: Split, patients: Mapping[str, str]) -> None:
        shots, subset = cfg.DATASET.NUM_SHOTS, cfg.DATASET.SUBSAMPLE_CLASSES
        draw, self.trial = cfg.DATASET.get("DRAW", BALANCED), cfg.DATASET.get("TRIAL", "")
        if shots != -1 and shots < 1:
            raise UserError(
                f"DATASET.NUM_SHOTS is {shots}: give the images per class, 1 or more, or -1 for all of them."
            )
        if subset not in SUBSETS:
            raise UserError(f"DATASET.SUBSAMPLE_CLASSES is {subset!r}: give one of {', '.join(SUBSETS)}.")
        self.fingerprint = fingerprint(split)
        self.all_classnames = class_names(split)
        self.prompts_name = Path(self.split_path).stem.removeprefix("split_")
        if subset != "all" and len(self.all_classnames) < FEWEST_CLASSES:
            raise UserError(
                f"{self.split_path} has {len(self.all_classnames)} classes, but base-to-novel needs at least "
                f"{FEWEST_CLASSES}, two to learn and two novel ones: use the few-shot protocol."
            )
        everything = [f"{self.image_dir}/{item.path}" for part in PARTS for item in split[part]]
        whole = take_classes(split, subset)
        validation, names = whole["val"], class_names(whole)
        if shots > 0 and draw == BALANCED:
            split = take_classes(draw_shots(split, shots, cfg.SEED), subset)
        else:
            split = draw_shots(whole, shots, cfg.SEED, draw) if shots > 0 else whole
        self.notes = notes_on_draw(split["train"], names, shots, draw)
        split = with_trial(split, self.trial, cfg.SEED, patients)
        train, val, test = ([self._datum(item) for item in split[part]] for part in PARTS)
        which = cfg.get("TEST", {}).get("CALIBRATE_ON", "auto")
        uses_all = which == "all" or (which == "auto" and load().find(cfg.DATASET.NAME) is None)
        more = uses_all and len(validation) > len(val)
        self.calibration = [self._datum(item) for item in validation] if more else None
        self.warnings: list[str] = []
        self.tested: DatasetBase = self
        if cfg.DATASET.get("TEST_ON", ""):
            self.tested = build_dataset(_config_of(cfg, cfg.DATASET.TEST_ON))
            self.fingerprint = cast(BiomedicalDataset, self.tested).fingerprint
            everything += self.tested.image_paths()
            self.warnings += getattr(self.tested, "warnings", ())
            test = _relabelled(self.tested.test or [], names, cfg.DATASET.TEST_ON, self.prompts_name)
        self._image_paths = list(dict.fromkeys(everything))
        super().__init__(names, train_x=train, val=val, test=test)

    def image_paths(self) -> list[str]:
        """Return the files of all images, including those that were not drawn."""
        return self._image_paths

    def _datum(self, item: Item) -> Datum:
        return Datum.of_known(impath=f"{self.image_dir}/{item.path}", label=item.label, classname=item.classname)


def _config_of(cfg: CfgNode, name: str) -> CfgNode:
    """Return the configuration for all of another data set, from the catalogue or a folder of images."""
    facts = load().find(name)
    other = cfg.clone()
    other.defrost()
    other.DATASET.NAME, other.DATASET.FOLDER = (facts.name, "") if facts else ("ImageFolder", own_folder(name))
    other.DATASET.NUM_SHOTS, other.DATASET.SUBSAMPLE_CLASSES, other.DATASET.TEST_ON = -1, "all", ""
    return other


def _relabelled(items: list[Datum], classnames: list[str], target: str, source: str) -> list[Datum]:
    """Return the images with the labels that their classes have in `classnames`."""
    names = sorted({item.classname for item in items})
    labels = places(names, classnames)
    missing = [name for name in names if name not in labels]
    if missing:
        raise UserError(
            f"What is learned on {source} cannot be tested on {target}, whose class '{missing[0]}' {source} does not "
            f"have: name a target with classes among {', '.join(classnames)}."
        )
    return [Datum.of_known(item.impath, labels[item.classname], classname=item.classname) for item in items]
