"""What is known of the published benchmark's data sets: names, sources, classes, counts (catalogue.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dassl.utils import UserError

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Facts:
    """One data set. Its images lie in <root>/<name>/<name>, its split in <root>/<name>/split_<name>.json."""

    name: str
    config: str  # name on the command line: configs/datasets/<config>.yaml
    modality: str
    organ: str
    zip_name: str
    gdrive_id: str
    split_blob_sha1: str  # git's name for the published split file's content
    counts: tuple[int, ...]  # images in train, val, test
    classes: dict[str, tuple[int, ...] | None]  # in label order; images in train, val, test where published

    def folder(self, root: str | Path) -> Path:
        return Path(root) / self.name

    def image_folder(self, root: str | Path) -> Path:
        return self.folder(root) / self.name

    def split_file(self, root: str | Path) -> Path:
        return self.folder(root) / f"split_{self.name}.json"


@dataclass(frozen=True)
class Catalogue:
    split_repository: str  # on GitHub: data/<name>/split_<name>.json at this commit
    split_commit: str
    zip_repository: str  # a data set on the Hugging Face hub: <name>.zip
    datasets: dict[str, Facts]

    def lookup(self, name: str) -> Facts:
        """The data set called `name` on the command line (btmri) or in the paper (BTMRI); UserError for others."""
        for facts in self.datasets.values():
            if name.lower() in (facts.config, facts.name.lower()):
                return facts
        known = ", ".join(facts.config for facts in self.datasets.values())
        raise UserError(f"Unknown data set {name!r}: the published ones are {known}.")


@cache
def load() -> Catalogue:
    raw = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    sets = {
        name: Facts(
            name=name,
            config=facts["config"],
            modality=facts["modality"],
            organ=facts["organ"],
            zip_name=facts["zip"],
            gdrive_id=facts["gdrive_id"],
            split_blob_sha1=facts["split_blob_sha1"],
            counts=tuple(facts["counts"]),
            classes={name: tuple(counts) if counts else None for name, counts in facts["classes"].items()},
        )
        for name, facts in raw["datasets"].items()
    }
    return Catalogue(raw["splits"]["repository"], raw["splits"]["commit"], raw["zips"]["repository"], sets)
