"""Inspects a folder of images: what is in it and what is wrong with it."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ogkd.core import UserError, progress
from ogkd.core.images import has_preamble, is_blank, load_image
from ogkd.core.places import command
from ogkd.core.words import counted
from ogkd.data.beside import beside_by_content, is_mask
from ogkd.data.catalogue import PARTS
from ogkd.data.folders import split_of
from ogkd.data.labels import Labels
from ogkd.data.layout import Layout, read_layout, sentence
from ogkd.data.names import folded
from ogkd.data.patients import across_parts, known_patients
from ogkd.data.splits import Split, by_class, check_images, part_of_image, read_split
from ogkd.data.tables import tally

FEWEST = 3  # images per class: one each to train, validate and test
READERS = 4


@dataclass(frozen=True)
class Look:
    """One image file: its size and mode as stored, a hash of its pixels ("" if it is blank), its number of frames, and
    why it cannot be read."""

    path: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    pixels: str = ""
    frames: int = 1
    problem: str = ""
    mask: bool = False  # does it look like a mask?


@dataclass
class Inspection:
    """All images of a folder by class, with the result of looking at each, and its part if there is a split."""

    classes: dict[str, list[Look]]
    parts: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    split: Path | None = None
    wrong: list[str] = field(default_factory=list)  # sentences on what is wrong with the folder's layout
    noted: list[str] = field(default_factory=list)  # sentences on what is not used, and on what was decided

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
        found = [*self.wrong, *(look.problem for _, look in self.looks() if look.problem)]
        found += [
            f"The image {look.path} is blank (all its pixels have the same value): remove it or export it again."
            for _, look in self.looks()
            if not (look.problem or look.pixels)
        ]
        if masks := beside_by_content({name: [look.mask for look in of] for name, of in self.classes.items()}):
            found.append(sentence(f"{masks}: if they are no images, move them elsewhere"))
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
        found += tally(
            f"Patients in several parts of the split, so make it again with {command('split')} --replace",
            across_parts(self.parts, self.patients),
        )
        return found

    def remarks(self) -> list[str]:
        """Return what is worth knowing but may be intended, one sentence each."""
        found = []
        for group in self.duplicates():
            if len({name for name, _ in group}) == 1:
                found.append(f"The same image twice: {' = '.join(look.path for _, look in group)}.")
        several = [look for _, look in self.looks() if look.frames > 1]
        if several:
            found.append(
                f"{len(several)} images have several frames or pages, of which the middle one is read, unless "
                f"INPUT.FRAME selects another; the first is {several[0].path} ({several[0].frames})."
            )
        if not self.parts:
            found.append(f"There is no split yet: {command('split')} makes one by patient, training one by image.")
        elif not self.patients:
            found.append("The patients are not known: images of one patient may be in two parts.")
        return [*found, *self.noted]

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
                    *(sum(self.parts.get(look.path) == part for look in of_class) for part in PARTS if self.parts),
                    _range([look.size for look in sound]),
                    ", ".join(
                        f"{mode} {number}" for mode, number in Counter(look.mode for look in sound).most_common()
                    ),
                ]
            )
        return tabulate(rows, headers=["class", "images", *(PARTS if self.parts else ()), "size", "modes"])


def inspect(folder: str | Path, labels: Labels | None = None) -> Inspection:
    """Read every image of FOLDER/<class>/** or, if the folder has a split in CoOp's layout (split_<name>.json beside a
    folder <name>), every image listed in that split, or those with a class in `labels`.

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
    images, parts = folder / folder.name, split
    listed = [item.path for part in PARTS for item in split[part]] if split is not None else []
    if listed and not images.is_dir() and not any((folder / path).is_file() for path in listed):
        raise UserError(f"The image folder {images} of {file.name} is missing: put the images there.")
    wrong: list[str] = []
    noted: list[str] = []
    if labels is not None:
        images, paths = folder, labels.classes
        wrong, noted = labels.disagree(split) if split is not None else [], labels.notes
    elif split is not None and images.is_dir() and not (folder / split["train"][0].path).is_file():
        paths = by_class(split)
    else:
        layout = read_layout(folder)
        if split is None and not layout.listing.images:
            layout.check()
        faults, warnings = layout.review(split)
        wrong, noted = [*map(sentence, faults)], [*map(sentence, [*warnings, *layout.notes])]
        images, paths = folder, layout.classes if split is None or _sorted_by(layout, split) else by_class(split)
        try:
            if split is not None:
                check_images(images, split, file, "put them back, or delete the split file for a new split")
            elif layout.parts and not faults:
                parts = split_of(layout)
        except UserError as error:
            wrong.append(str(error))
    everything = [path for of_class in paths.values() for path in of_class]
    with ThreadPoolExecutor(READERS) as pool:
        seen = pool.map(lambda path: look_at(images, path), everything)
        looks = {look.path: look for look in progress(seen, "look at images", total=len(everything), unit="image")}
    patients = known_patients(folder, everything, images)
    return Inspection(
        {name: [looks[path] for path in of_class] for name, of_class in paths.items()},
        part_of_image(parts) if parts is not None else {},
        patients.of,
        file if split is not None else None,
        wrong,
        [*noted, *patients.notes],
    )


def _sorted_by(layout: Layout, split: Split) -> bool:
    """Whether the class folders are the classes of a split, not of a table from which it was made."""
    folder_of = {path: folded(name) for name, paths in layout.classes.items() for path in paths}
    return any(folder_of.get(item.path) == folded(item.classname) for part in PARTS for item in split[part])


def look_at(folder: Path, path: str) -> Look:
    """Read one image."""
    file = folder / path
    try:
        image, frames = load_image(file)
        if file.suffix.lower() == ".dcm" or has_preamble(file):
            size, mode = image.size, "DICOM"
        else:
            with Image.open(file) as stored:
                size, mode = stored.size, stored.mode
    except UserError as error:
        return Look(path, problem=str(error))
    digest = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16)
    pixels = "" if is_blank(image) else digest.hexdigest()
    return Look(path, size, mode, pixels, frames, mask=is_mask(image))


def _range(sizes: list[tuple[int, int]]) -> str:
    """Return the most common size, and the smallest and largest if they differ."""
    if not sizes:
        return "-"
    (width, height), _ = Counter(sizes).most_common(1)[0]
    low, high = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    extent = f" ({low[0]}x{low[1]} to {high[0]}x{high[1]})" if low != high else ""
    return f"{width}x{height}{extent}"
