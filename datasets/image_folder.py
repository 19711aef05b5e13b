"""ImageFolder: your own images in <root>/<DATASET.FOLDER>/<class>/**/<image>, without any code."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.opening import open_images
from dassl.utils import UserError, expanded
from dassl.utils.words import counted

from .biomedical import BiomedicalDataset
from .catalogue import PARTS
from .folders import SUFFIXES, find_images, left_out, make_split
from .splits import Split, check_images, check_parts, read_split, write_split

__all__ = ["SUFFIXES", "ImageFolder", "find_images", "make_split"]


@DATASET_REGISTRY.register()
class ImageFolder(BiomedicalDataset):
    """A folder with one subfolder per class; class names are the sorted folder names, with spaces for underscores.

    split_<folder>.json in the folder says which images are for training, validation and testing. If it does not exist,
    one is made and stored, so that images added later do not move others between training and test. It is made image by
    image: with several images per patient, first make a split by patient (scripts/split.py).
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
        self._finish(cfg, self._stored() if Path(self.split_path).exists() else self._made(cfg))

    def _stored(self) -> Split:
        split = read_split(self.split_path)
        check_images(self.image_dir, split, self.split_path, "put them back, or delete the split file for a new split")
        used = {item.path for part in PARTS for item in split[part]}
        more = [path for paths in find_images(self.image_dir).values() for path in paths if path not in used]
        if more:
            print(
                f"{counted(len(more), 'image')} in {self.image_dir} {'is' if len(more) == 1 else 'are'} not in "
                f"{self.split_path} and not used; the first is {more[0]}. To use all, delete the split file, and "
                "a new split is made."
            )
        return split

    def _made(self, cfg: CfgNode) -> Split:
        images = find_images(self.image_dir)
        split = make_split(self.image_dir, images)
        # A split that lists unreadable images would have to be deleted once they are replaced.
        paths = [f"{self.image_dir}/{path}" for of_class in images.values() for path in of_class]
        open_images(paths, cfg.get("INPUT", {}).get("FRAME", 0))
        check_parts(self.image_dir, split, self.image_dir)
        if sentence := left_out(Path(self.image_dir), images):
            print(sentence)
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
