"""Inspects a folder of images: what is in it and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from dassl.utils import UserError, progress, read_image
from dassl.utils.images import has_preamble
from dassl.utils.words import counted

from .catalogue import PARTS
from .folders import find_images, left_out
from .patients import read_patients
from .splits import class_names, read_split

FEWEST = 3  # images per class: one each to train, validate and test
READERS = 4


@dataclass(frozen=True)
class Look:
    """One image file: its size and mode as stored, a hash of its pixels, and why it cannot be read."""

    path: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    pixels: str = ""
    problem: str = ""


@dataclass
class Inspection:
    """All images of a folder by class, with the result of looking at each, and its part if there is a split."""

    classes: dict[str, list[Look]]
    parts: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    split: Path | None = None
    left_out: str = ""  # a sentence about files that are not images

    def looks(self) -> Iterator[tuple[str, Look]]:
        for name, of_class in self.classes.items():
            for look in of_class:
                yield name, look

    def duplicates(self) -> list[list[tuple[str, Look]]]:
        """Return groups of images with identical pixels."""
        groups: dict[str, list] = defaultdict(list)
        for name, look in self.looks():
            if look.pixels:
                groups[look.pixels].append((name, look))
        return [group for group in groups.values() if len(group) > 1]

    def faults(self) -> list[str]:
        """Return what should be fixed before training, one sentence each."""
        found = [look.problem for _, look in self.looks() if look.problem]
        for group in self.duplicates():
            names = " = ".join(look.path for _, look in group)
            if len({name for name, _ in group}) > 1:
                found.append(f"One image is in two classes: {names}.")
            elif len({self.parts[look.path] for _, look in group if look.path in self.parts}) > 1:
                found.append(f"One image is in two parts of the split: {names}.")
        for name, of_class in self.classes.items():
            sound = sum(not look.problem for look in of_class)
            if sound < FEWEST:
                found.append(f"The class {name} has {counted(sound, 'readable image')}: it needs {FEWEST} or more.")
        parts_of = defaultdict(set)
        for path, patient in self.patients.items():
            if path in self.parts:
                parts_of[patient].add(self.parts[path])
        found += [
            f"The patient {patient} is in two parts of the split: make it again with scripts/split.py."
            for patient, parts in parts_of.items()
            if len(parts) > 1
        ]
        return found

    def remarks(self) -> list[str]:
        """Return what is worth knowing but may be intended, one sentence each."""
        found = []
        for group in self.duplicates():
            if len({name for name, _ in group}) == 1:
                found.append(f"The same image twice: {' = '.join(look.path for _, look in group)}.")
        if self.split is None:
            found.append("There is no split yet: scripts/split.py makes one by patient, training makes one by image.")
        elif not self.patients:
            found.append("The patients are not known: images of one patient may be in two parts.")
        unused = [look.path for _, look in self.looks() if self.split is not None and look.path not in self.parts]
        if unused:
            number = counted(len(unused), "image is", "images are")
            found.append(f"{number} not in the split and not used; the first is {unused[0]}.")
        return [*found, self.left_out] if self.left_out else found

    def table(self) -> str:
        """Return a text table of images per class and part, sizes and modes."""
        from tabulate import tabulate

        rows = []
        for name, of_class in self.classes.items():
            sound = [look for look in of_class if not look.problem]
            rows.append(
                [
                    name,
                    len(of_class),
                    *(sum(self.parts.get(look.path) == part for look in of_class) for part in PARTS if self.split),
                    _range([look.size for look in sound]),
                    ", ".join(
                        f"{mode} {number}" for mode, number in Counter(look.mode for look in sound).most_common()
                    ),
                ]
            )
        return tabulate(rows, headers=["class", "images", *(PARTS if self.split else ()), "size", "modes"])


def inspect(folder: str | Path) -> Inspection:
    """Read every image of FOLDER/<class>/** or, if the folder has a split in CoOp's layout (split_<name>.json beside a
    folder <name>), every image listed in that split.

    Raises UserError if there is no such folder, there are no class folders, the split file is corrupt, or the folder of
    its images is missing.
    """
    if not str(folder):
        raise UserError("Give a folder: its name is empty.")
    folder = Path(folder).absolute()
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: give its folder." if folder.exists() else f"There is no folder {folder}.")
    file = folder / f"split_{folder.name}.json"
    split = read_split(file) if file.is_file() else None
    images = folder / folder.name
    listed = [item.path for part in PARTS for item in split[part]] if split is not None else []
    if listed and not images.is_dir() and not any((folder / path).is_file() for path in listed):
        raise UserError(f"The image folder {images} of {file.name} is missing: put the images there.")
    if split is not None and images.is_dir():
        names = class_names(split)
        paths: dict[str, list[str]] = {name: [] for name in names}
        for part in PARTS:
            for item in split[part]:
                paths[item.classname].append(item.path)
    else:
        images, paths = folder, find_images(folder)
    everything = [path for of_class in paths.values() for path in of_class]
    with ThreadPoolExecutor(READERS) as pool:
        seen = pool.map(lambda path: look_at(images, path), everything)
        looks = {look.path: look for look in progress(seen, "look at images", total=len(everything), unit="image")}
    return Inspection(
        {name: [looks[path] for path in of_class] for name, of_class in paths.items()},
        {item.path: part for part in PARTS for item in split[part]} if split is not None else {},
        read_patients(folder),
        file if split is not None else None,
        left_out(folder, paths) if images == folder else "",
    )


def look_at(folder: Path, path: str) -> Look:
    """Read one image."""
    file = folder / path
    try:
        image = read_image(file)
        if file.suffix.lower() == ".dcm" or has_preamble(file):
            size, mode = image.size, "DICOM"
        else:
            with Image.open(file) as stored:
                size, mode = stored.size, stored.mode
    except UserError as error:
        return Look(path, problem=str(error))
    except Exception as error:  # a corrupt file can make a library raise anything; the other images are still read
        return Look(path, problem=f"The image {file} cannot be read ({type(error).__name__}: {error}).")
    digest = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16)
    return Look(path, size, mode, digest.hexdigest())


def _range(sizes: list[tuple[int, int]]) -> str:
    """Return the most common size, and the smallest and largest if they differ."""
    if not sizes:
        return "-"
    (width, height), _ = Counter(sizes).most_common(1)[0]
    low, high = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    extent = f" ({low[0]}x{low[1]} to {high[0]}x{high[1]})" if low != high else ""
    return f"{width}x{height}{extent}"
