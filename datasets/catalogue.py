"""What is known of each data set: names, sources, classes, counts (catalogue.json)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from dassl.utils import UserError

PARTS = ("train", "val", "test")
DEFAULT_BACKBONE = "BiomedCLIP"
OWN = "folder:"  # before the name of a folder of one's own images that is called like a set of the catalogue
SECTIONS = ("datasets", "transfer", "generated")


@dataclass(frozen=True)
class Facts:
    """One data set. Its images lie in <root>/<name>/<name>, its split in <root>/<name>/split_<name>.json."""

    name: str
    config: str  # name on the command line, and of configs/datasets/<config>.yaml where there is one
    modality: str
    organ: str
    zip_name: str = ""  # of a published set
    gdrive_id: str = ""
    split_blob_sha1: str = ""  # git's name for the published split file's content
    counts: tuple[int, ...] = ()  # images in train, val, test
    classes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)  # in label order; images where published
    base2new: bool = True  # does it take part in base-to-novel?
    backbone: str = DEFAULT_BACKBONE  # unless a run names another
    generator: str = ""  # the module that draws it, for a set that is not published but made
    source_set: str = ""  # the set whose prompts are tested on this one in the transfer protocol
    splits: str = ""  # "owner/repository/commit" of the split file where that is not the catalogue's

    def folder(self, root: str | Path) -> Path:
        return Path(root) / self.name

    def image_folder(self, root: str | Path) -> Path:
        return self.folder(root) / self.name

    def split_file(self, root: str | Path) -> Path:
        return self.folder(root) / f"split_{self.name}.json"

    def remedy(self, root: str | Path) -> str:
        """How its files are had, for the sentence that says that they are missing."""
        if self.generator:
            return f"`python -m {self.generator} {self.config} --root {root}` makes it"
        if self.zip_name:
            return f"`python scripts/download.py {self.config} --root {root}` fetches it"
        return "put it there"


@dataclass(frozen=True)
class Catalogue:
    split_repository: str  # on GitHub: data/<name>/split_<name>.json at this commit
    split_commit: str
    zip_repository: str  # a data set on the Hugging Face hub: <name>.zip
    datasets: dict[str, Facts]
    generated: dict[str, Facts] = field(default_factory=dict)
    transfer: dict[str, Facts] = field(default_factory=dict)  # sets that only test what was learned on others

    def everything(self) -> list[Facts]:
        return [*self.published(), *self.generated.values()]

    def published(self) -> list[Facts]:
        """The sets that can be downloaded: the benchmark's and those of the transfer protocol."""
        return [*self.datasets.values(), *self.transfer.values()]

    def transfers(self) -> list[tuple[Facts, Facts]]:
        """The transfer protocol's pairs of source and target, those of one source together."""
        targets = [facts for facts in self.everything() if facts.source_set]
        pairs = [(source, facts) for facts in targets if (source := self.find(facts.source_set))]
        names = [facts.name for facts in self.everything()]
        return sorted(pairs, key=lambda pair: names.index(pair[0].name))

    def find(self, name: str) -> Facts | None:
        """The data set called `name` on the command line (btmri) or in the paper (BTMRI); None for others."""
        for facts in self.everything():
            if name.lower() in (facts.config.lower(), facts.name.lower()):
                return facts
        return None

    def lookup(self, name: str) -> Facts:
        """The published data set of that name. Raises UserError for others."""
        facts = self.find(name)
        if facts is None or facts.name in self.generated:
            known = ", ".join(facts.config for facts in self.published())
            raise UserError(f"Unknown data set {name!r}: the published ones are {known}.")
        return facts


def own_folder(name: str) -> str:
    """The folder of images that a data set's name means where it means one: the name without `folder:`."""
    return name.removeprefix(OWN)


def name_of_folder(folder: str) -> str:
    """What a folder of images is called as a data set: its name, with `folder:` before that of a set here."""
    return OWN + folder if load().find(folder) else folder


@cache
def load() -> Catalogue:
    raw = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    sets, transfer, generated = ({name: _facts(name, entry) for name, entry in raw[part].items()} for part in SECTIONS)
    splits, theirs, zips = raw["splits"], raw["transfer_splits"], raw["zips"]
    at = f"{theirs['repository']}/{theirs['commit']}"
    transfer = {name: replace(facts, splits=at) for name, facts in transfer.items()}
    return Catalogue(splits["repository"], splits["commit"], zips["repository"], sets, generated, transfer)


def _facts(name: str, entry: dict) -> Facts:
    entry = dict(entry)
    entry["zip_name"] = entry.pop("zip", "")
    entry["counts"] = tuple(entry.pop("counts", ()))
    entry["classes"] = {name: tuple(counts) if counts else None for name, counts in entry.pop("classes", {}).items()}
    return Facts(name=name, **entry)
