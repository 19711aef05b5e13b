"""ImageFolder: anyone's own images, <root>/<DATASET.FOLDER>/<class>/**/<image>, without a line of code."""

from __future__ import annotations

from pathlib import Path

from yacs.config import CfgNode

from dassl.data.datasets import DATASET_REGISTRY
from dassl.data.opening import open_images
from dassl.utils import UserError, expanded

from .biomedical import BiomedicalDataset
from .catalogue import PARTS
from .folders import SUFFIXES, find_images, left_out, make_split
from .splits import Split, check_images, check_parts, read_split, write_split

__all__ = ["SUFFIXES", "ImageFolder", "find_images", "make_split"]


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
        folder = Path(expanded(cfg.DATASET.ROOT or ".")).absolute() / name
        if not folder.is_dir():
            raise UserError(f"The data folder {folder} is not there: put a folder of images for each class into it.")
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
                f"{len(more)} images in {self.image_dir} are not in {self.split_path} and are not used, the first is "
                f"{more[0]}; delete the split file to make a new split with them."
            )
        return split

    def _made(self, cfg: CfgNode) -> Split:
        images = find_images(self.image_dir)
        split = make_split(self.image_dir, images)
        # A split that names images which cannot be read would have to be deleted when they are replaced.
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
