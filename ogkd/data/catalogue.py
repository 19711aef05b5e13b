"""Facts about each data set, from catalogue.json: names, sources, classes and counts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from ogkd.core import UserError, did_you_mean
from ogkd.core.places import command

PARTS = ("train", "val", "test")
DEFAULT_BACKBONE = "BiomedCLIP"
OWN = "folder:"  # prefix for a folder of your own images that has the name of a catalogued data set
SECTIONS = ("datasets", "transfer", "generated")


@dataclass(frozen=True)
class Facts:
    """One data set. Its images are in <root>/<name>/<name>, its split is <root>/<name>/split_<name>.json."""

    name: str
    config: str  # name on the command line and of configs/datasets/<config>.yaml, if there is one
    modality: str
    organ: str
    zip_name: str = ""  # of a published set
    sha256: str | None = None  # of the zip; None if not known
    gdrive_id: str = ""
    split_blob_sha1: str = ""  # git's name for the published split file's content
    counts: tuple[int, ...] = ()  # images in train, val, test
    classes: dict[str, tuple[int, ...] | None] = field(default_factory=dict)  # in label order; counts where published
    base2new: bool = True  # whether it takes part in base-to-novel
    backbone: str = DEFAULT_BACKBONE  # unless a run names another
    generator: str = ""  # the module that generates it, if it is synthetic
    source_set: str = ""  # the data set whose prompts the transfer protocol tests on this one
    splits: str = ""  # "owner/repository/commit" of the split file if it differs from the catalogue's

    def folder(self, root: str | Path) -> Path:
        return Path(root) / self.name

    def image_folder(self, root: str | Path) -> Path:
        return self.folder(root) / self.name

    def split_file(self, root: str | Path) -> Path:
        return self.folder(root) / f"split_{self.name}.json"

    def remedy(self, root: str | Path) -> str:
        """Say how to get its files, to end the sentence that reports them missing."""
        if self.generator:
            return f"`python -m {self.generator} {self.config} --root {root}` makes it"
        if self.zip_name:
            return f"`{command('download', self.config, '--root', root)}` fetches it"
        return "put it there"


@dataclass(frozen=True)
class Catalogue:
    split_repository: str  # on GitHub: data/<name>/split_<name>.json at this commit
    split_commit: str
    zip_repository: str  # a data set on the Hugging Face hub: <name>.zip
    datasets: dict[str, Facts]
    zip_revision: str | None = None  # its commit; None if not known
    generated: dict[str, Facts] = field(default_factory=dict)
    transfer: dict[str, Facts] = field(default_factory=dict)  # data sets that only test prompts learned on others

    def everything(self) -> list[Facts]:
        return [*self.published(), *self.generated.values()]

    def published(self) -> list[Facts]:
        """Return the data sets that can be downloaded: the benchmark's and those of the transfer protocol."""
        return [*self.datasets.values(), *self.transfer.values()]

    def transfers(self) -> list[tuple[Facts, Facts]]:
        """Return the transfer protocol's pairs of source and target, grouped by source."""
        targets = [facts for facts in self.everything() if facts.source_set]
        pairs = [(source, facts) for facts in targets if (source := self.find(facts.source_set))]
        names = [facts.name for facts in self.everything()]
        return sorted(pairs, key=lambda pair: names.index(pair[0].name))

    def find(self, name: str) -> Facts | None:
        """Return the data set called `name` on the command line (btmri) or in the paper (BTMRI), or None."""
        for facts in self.everything():
            if name.lower() in (facts.config.lower(), facts.name.lower()):
                return facts
        return None

    def lookup(self, name: str, others: Iterable[str] = ()) -> Facts:
        """Return the published data set of that name. Raises UserError if there is none; `others`: what may be meant,
        too.
        """
        facts = self.find(name)
        if facts is None or facts.name in self.generated:
            known = [facts.config for facts in self.published()]
            raise UserError(
                f"Unknown data set {name!r}{did_you_mean(name, [*known, *others])}: "
                f"the published ones are {', '.join(known)}."
            )
        return facts


def config_name(word: str) -> str:
    """Return the name on the command line of a catalogued data set, given by it or by the paper's in any case; any
    other word as it is."""
    facts = load().find(word)
    return facts.config if facts else word


def own_folder(name: str) -> str:
    """Return the folder of images that a data set's name refers to: the name without `folder:`."""
    return name.removeprefix(OWN)


def name_of_folder(folder: str) -> str:
    """Return a folder's name as a data set: with `folder:` in front if a catalogued data set has the same name."""
    return OWN + folder if load().find(folder) else folder


@cache
def load() -> Catalogue:
    raw = json.loads(Path(__file__).with_name("catalogue.json").read_text(encoding="utf-8"))
    sets, transfer, generated = ({name: _facts(name, entry) for name, entry in raw[part].items()} for part in SECTIONS)
    splits, theirs, zips = raw["splits"], raw["transfer_splits"], raw["zips"]
    at = f"{theirs['repository']}/{theirs['commit']}"
    transfer = {name: replace(facts, splits=at) for name, facts in transfer.items()}
    return Catalogue(
        splits["repository"], splits["commit"], zips["repository"], sets, zips["revision"], generated, transfer
    )


def _facts(name: str, entry: dict) -> Facts:
    entry = dict(entry)
    entry["zip_name"] = entry.pop("zip", "")
    entry["counts"] = tuple(entry.pop("counts", ()))
    entry["classes"] = {name: tuple(counts) if counts else None for name, counts in entry.pop("classes", {}).items()}
    return Facts(name=name, **entry)
