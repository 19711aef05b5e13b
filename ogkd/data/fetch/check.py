"""Checks a local data set: its split file, every image listed in the split, and the counts per class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from tabulate import tabulate

from ogkd.core import UserError, progress
from ogkd.core.hashes import git_blob_sha1
from ogkd.data.catalogue import PARTS, Facts
from ogkd.data.splits import Split, class_names, missing_images, parse_split


@dataclass
class Report:
    """The result of a check; `split` is None if the split file is missing or not the published one."""

    facts: Facts
    root: Path
    split: Split | None = None
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return self.split is not None and not self.missing and not self.unreadable

    def fault(self) -> str:
        """Return what is wrong, as a phrase; "" for a complete data set."""
        name, split_file = self.facts.name, self.facts.split_file(self.root)
        images = self.facts.image_folder(self.root)
        if not images.is_dir():
            return f"the image folder {images} does not exist"
        if self.split is None:
            what = "is not the published one" if split_file.exists() else "does not exist"
            return f"the split file {split_file} {what}"
        faults = [
            f"{len(paths)} images of {name} are {what}, the first is {images / paths[0]}"
            for paths, what in ((self.missing, "missing"), (self.unreadable, "unreadable"))
            if paths
        ]
        return " and ".join(faults)

    def table(self) -> str:
        """Return a table of images per class and part; "658 of 660" where the published number differs."""
        if self.split is None:
            return ""
        faulty, names = {*self.missing, *self.unreadable}, class_names(self.split)
        here = Counter((i.classname, part) for part in PARTS for i in self.split[part] if i.path not in faulty)
        rows = [(name, [here[name, part] for part in PARTS], self.facts.classes.get(name)) for name in names]
        totals = [sum(here[name, part] for name in names) for part in PARTS]
        rows.append(("all", totals, self.facts.counts))
        cells = [
            [name, *(f"{n}" if n == m else f"{n} of {m}" for n, m in zip(counts, published or counts, strict=True))]
            for name, counts, published in rows
        ]
        agree = list(self.facts.classes) == names and not any("of" in cell for _, *row in cells for cell in row)
        return f"{tabulate(cells, headers=['class', *PARTS])}\n{'as' if agree else 'NOT as'} published"


def check(facts: Facts, root: Path) -> Report:
    """Check the split file's hash, and that every image exists and begins like an image file. Raises UserError."""
    report = Report(facts, root)
    split_file, images = facts.split_file(root), facts.image_folder(root)
    try:
        content = split_file.read_bytes() if split_file.exists() else b""
    except OSError as error:
        raise UserError(f"Cannot read the split file {split_file}: {error.strerror}.") from error
    if git_blob_sha1(content) != facts.split_blob_sha1:
        return report
    report.split = parse_split(content, str(split_file))
    paths = [item.path for part in PARTS for item in report.split[part]]
    report.missing = missing_images(images, paths)
    absent = set(report.missing)
    present = [path for path in paths if path not in absent]
    checked = progress(present, f"Checking {facts.name}", unit="image")
    report.unreadable = [path for path in checked if not has_image_header(images / path)]
    return report


def has_image_header(file: Path) -> bool:
    """Whether a file begins like an image file; its pixels are not decoded."""
    try:
        with Image.open(file):
            return True
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
