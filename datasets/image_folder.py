"""ImageFolder: anyone's own images, <root>/<DATASET.FOLDER>/<class>/**/<image>, without a line of code."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.utils import UserError

from .biomedical import BiomedicalDataset
from .catalogue import PARTS
from .splits import Item, Split, check_images, class_words, read_split, write_split

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")


@DATASET_REGISTRY.register()
class ImageFolder(BiomedicalDataset):
    """A folder of class folders; class names are the folders' with underscores read as spaces, in sorted order.

    split_<folder>.json in the folder decides which image is for what. Where there is none, one is made and stored, so
    that images added later do not move others between training and test. Images of one class are split one by one: who
    has several of a patient should write the split file so that they stay together.
    """

    dataset_dir = ""

    def __init__(self, cfg: CfgNode) -> None:
        name = cfg.DATASET.get("FOLDER", "")
        if not name:
            raise UserError("ImageFolder needs DATASET.FOLDER: name the folder under --root that has a folder a class.")
        folder = Path(cfg.DATASET.ROOT or ".").expanduser().absolute() / name
        if not folder.is_dir():
            raise UserError(f"The data folder {folder} is not there: put a folder of images for each class into it.")
        self.dataset_dir = self.image_dir = str(folder)
        self.split_path = str(folder / f"split_{folder.name}.json")
        self._finish(cfg, self._stored() if Path(self.split_path).exists() else self._made())

    def _stored(self) -> Split:
        split = read_split(self.split_path)
        check_images(self.image_dir, split, self.split_path, "put them back, or delete the split file for a new split")
        used = {item.path for part in PARTS for item in split[part]}
        more = [path for paths in find_images(self.image_dir).values() for path in paths if path not in used]
        if more:
            print(
                f"{len(more)} images in {self.image_dir} are not in {self.split_path} and are not used, the first is "
                f"{more[0]}; delete the split file to make a new split with them."
            )
        return split

    def _made(self) -> Split:
        split = make_split(self.image_dir, find_images(self.image_dir))
        try:
            write_split(split, self.split_path)
        except OSError as error:
            print(
                f"The split could not be stored as {self.split_path} ({error.strerror}); it is the same in every run "
                "as long as the images stay the same."
            )
        else:
            print(f"Stored the split made of {self.image_dir} as {self.split_path}.")
        return split


def find_images(folder: str | Path) -> dict[str, list[str]]:
    """Class folder -> its images' paths below `folder`, sorted; hidden files, hidden folders and other files left out.

    Raises UserError when there is no class folder or a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error

    folder = Path(folder)
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and _shown(path.name))
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its own there.")
    found: dict[str, list[str]] = {name: [] for name in classes}
    for name in classes:
        for place, subfolders, files in os.walk(folder / name, onerror=refuse):
            subfolders[:] = filter(_shown, subfolders)
            below = Path(place).relative_to(folder)
            found[name] += [(below / f).as_posix() for f in files if _shown(f) and f.lower().endswith(SUFFIXES)]
        found[name].sort()
    return found


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def make_split(folder: str | Path, images: dict[str, list[str]]) -> Split:
    """Half of each class for training, a fifth for validation, the rest for testing, as in the published splits.

    Each part has at least one image of each class; which image goes where depends on nothing but the images' paths.
    Raises UserError when a class has less than three images or two folders give the same class name.
    """
    split: Split = {part: [] for part in PARTS}
    folders: dict[str, str] = {}
    for label, (name, paths) in enumerate(images.items()):
        classname = class_words(name) or name
        if folders.setdefault(classname, name) != name:
            raise UserError(
                f"The folders {folders[classname]!r} and {name!r} in {folder} both give the class {classname!r}: "
                "rename or join them."
            )
        if len(paths) < 3:
            raise UserError(
                f"The class folder {Path(folder, name)} has {len(paths) or 'no'} image{'s' * (len(paths) != 1)} "
                f"({', '.join(SUFFIXES)}): it needs at least 3, one each to train, validate and test, or remove it."
            )
        shuffled = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
        train, val = max(1, len(paths) // 2), max(1, len(paths) // 5)
        for part, chosen in zip(
            PARTS, (shuffled[:train], shuffled[train : train + val], shuffled[train + val :]), strict=True
        ):
            split[part] += [Item(path, label, classname) for path in sorted(chosen)]
    return split
