"""Inspects a folder of images: what is in it and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.opening import Look, look_at
from ogkd.core.places import command
from ogkd.core.words import counted, tally
from ogkd.data.alike import MOST, details, near_copies, series
from ogkd.data.beside import beside_by_content
from ogkd.data.catalogue import PARTS
from ogkd.data.findings import Findings
from ogkd.data.first_look import BY_NAME, FEWEST, divided_by_name, small
from ogkd.data.labels import Labels
from ogkd.data.layout import read_layout
from ogkd.data.patients import across_parts, known_patients
from ogkd.data.splits import by_class, check_images, missing_images, part_of_image, read_split, renamed, split_file
from ogkd.data.splitting import divide

# What two images that are nearly the same must not lie in
TWO_PARTS, TWO_CLASSES, TWO_PATIENTS = "two parts of the split", "two classes", "two patients"
ONE_CLASS = (
    "an image has one class here, and several labels per image are not supported: remove the image from all but one, "
    "make a class of both together, or train one model per finding, with the classes yes and no"
)


@dataclass
class Inspection(Findings):
    """All images of a folder by class, with the result of looking at each, and its part if there is a split."""

    classes: dict[str, list[Look]]
    parts: dict[str, str] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)

    def looks(self) -> Iterator[tuple[str, Look]]:
        for name, of_class in self.classes.items():
            for look in of_class:
                yield name, look

    def look_for_faults(self) -> None:
        """Add what the images themselves give reason to say."""
        looks = [look for _, look in self.looks()]
        self.faults += [look.problem for look in looks if look.problem]
        self.faults += [
            f"the image {look.path} is blank (all its pixels have the same value): remove it or export it again"
            for look in looks
            if look.blank
        ]
        masks = beside_by_content({name: [look.mask for look in of] for name, of in self.classes.items()})
        self.faults += [f"{phrase}: if they are no images, move them elsewhere" for phrase in masks]
        remarks = [*self._compare(), *self._near_copies(), *small(self.classes)]
        for name, of_class in self.classes.items():
            sound = sum(not look.problem for look in of_class)
            if sound < FEWEST:
                self.faults.append(
                    f"the class {name} has {counted(sound, 'readable image')}: it needs {FEWEST} or more"
                )
        self.faults += tally(
            f"patients in several parts of the split, so make it again with {command('split')} --replace",
            across_parts(self.parts, self.patients),
        )
        if several := [look for look in looks if look.frames > 1]:
            remarks.append(
                f"{len(several)} images have several frames or pages, of which the middle one is read, unless "
                f"INPUT.FRAME selects another; the first is {several[0].path} ({several[0].frames})"
            )
        if not self.parts:
            self.notes.append(f"there is no split yet: {command('split')} makes one by patient, training one by image")
        elif not self.patients:
            remarks.append("the patients are not known: images of one patient may be in two parts")
        self.warnings[:0] = remarks

    def _compare(self) -> list[str]:
        """Find images with identical pixels; return phrases about those that may be intended."""
        groups: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for name, look in self.looks():
            if look.pixels and not look.blank:
                groups[look.pixels].append((name, look.path))
        twice, several = [], []
        for group in groups.values():
            paths, classes = [path for _, path in group], {name for name, _ in group}
            if len(paths) == 1:
                continue
            if len(classes) > 1:
                several.append(" = ".join(paths))
            else:
                twice.append(f"the same image twice: {' = '.join(paths)}")
            if len({self.parts[path] for path in paths if path in self.parts}) > 1:
                self.faults.append(f"one image is in two parts of the split: {' = '.join(paths)}")
        self.faults += [f"{phrase}: {ONE_CLASS}" for phrase in tally("one image is in two classes", several)]
        return twice

    def _near_copies(self) -> list[str]:
        """Find images that are nearly the same, and frames of videos; return phrases about those."""
        looks = [look for _, look in self.looks() if look.thumbnail and not look.blank]
        remarks = []
        if len(looks) > MOST:
            remarks.append(f"{MOST} of the {len(looks)} images were compared with each other for near copies")
            looks = looks[:: -(-len(looks) // MOST)]
        if len(looks) < 2:
            return remarks
        squares = details([look.thumbnail for look in looks])
        videos = series([look.path for look in looks], squares)
        video_of = {path: number for number, paths in enumerate(videos) for path in paths}
        class_of = {look.path: name for name, look in self.looks()}
        pairs: dict[str, list[str]] = defaultdict(list)
        for one, other in near_copies(squares):
            first, second = looks[one], looks[other]
            frames = first.path in video_of and video_of[first.path] == video_of.get(second.path)
            if first.pixels != second.pixels and not frames:
                same_class = class_of[first.path] == class_of[second.path]
                pairs[self._shared(first.path, second.path, same_class)].append(f"{first.path} ~ {second.path}")
        what = "images that are nearly the same (saved again, resized, brighter, turned or mirrored) in"
        of_parts, of_classes = (tally(f"{what} {where}", pairs[where]) for where in (TWO_PARTS, TWO_CLASSES))
        self.faults += [f"{phrase}: put each pair into one part, or remove one of the two" for phrase in of_parts]
        remarks += [f"{phrase}: check the labels; {ONE_CLASS}" for phrase in of_classes]
        remarks += tally(f"{what} one class{' and part' if self.parts else ''}", pairs[TWO_PATIENTS])
        return [*remarks, *(self._videos(videos) or divided_by_name(self.classes, self.parts, self.patients))]

    def _shared(self, first: str, second: str, same_class: bool) -> str:
        """Return what two images should not share if they are nearly the same; "" if it is only a patient."""
        if first in self.parts and second in self.parts and self.parts[first] != self.parts[second]:
            return TWO_PARTS
        if not same_class:
            return TWO_CLASSES
        patient = self.patients.get(first)
        return "" if patient and patient == self.patients.get(second) else TWO_PATIENTS

    def _videos(self, videos: list[list[str]]) -> list[str]:
        """Return a phrase about series of frames that are not in one part each, or not certain to be."""
        what = "series of images that follow each other, such as frames of a video,"
        divided = [paths for paths in videos if len({self.parts.get(path) for path in paths}) > 1]
        if not divided and (self.patients or not videos):
            return []
        if not divided and self.parts:
            return tally(f"{what} each in one part", [paths[0] for paths in videos])
        which = "must be in one part of the split each"
        if divided:
            which = "were divided between parts of the split, so that the test has been seen in training"
        examples = [f"{paths[0]} to {Path(paths[-1]).name}" for paths in divided or videos]
        per_class = Counter(paths[0].partition("/")[0] for paths in videos)
        mend = "--patients TABLE --replace, with a table that says which video each image is from"
        if len(per_class) == len(self.classes) and min(per_class.values()) >= FEWEST:
            mend = BY_NAME
        return [f"{phrase}: {command('split')} FOLDER {mend}" for phrase in tally(f"{what} which {which}", examples)]

    def table(self) -> str:
        """Return a text table of images per class and part, sizes and modes."""
        from tabulate import tabulate

        rows = []
        for name, of_class in self.classes.items():
            of_parts = [sum(self.parts.get(look.path) == part for look in of_class) for part in PARTS if self.parts]
            sound = [look for look in of_class if not look.problem]
            modes = Counter(look.mode for look in sound).most_common()
            sizes = _range([look.size for look in sound])
            rows.append([name, len(of_class), *of_parts, sizes, ", ".join(f"{mode} {n}" for mode, n in modes)])
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
    file = split_file(folder)
    split = read_split(file) if file.is_file() else None
    images, parts = folder / folder.name, split
    listed = [item.path for part in PARTS for item in split[part]] if split else []
    if listed and not images.is_dir() and not any((folder / path).is_file() for path in listed):
        raise UserError(f"The image folder {images} of {file.name} is missing: put the images there.")
    findings = Findings()
    if labels is not None:
        images, paths = folder, labels.classes
        findings = Findings(faults=labels.disagree(split) if split else [], notes=labels.notes)
    elif split and images.is_dir() and not (folder / split["train"][0].path).is_file():
        paths = by_class(split)
    else:
        layout = read_layout(folder)
        if split is None and not layout.listing.images:
            layout.check()
        images, findings = folder, layout.review(split)
        paths = by_class(split) if split and not layout.names(split) else layout.classes
        try:
            if split:
                again = f"split again with `{command('split', folder, '--replace')}`"
                check_images(images, split, file, f"put them back, or {again}")
            elif layout.parts and not findings.faults:
                parts = divide(folder, layout.classes, {}, layout.parts)
        except UserError as error:
            findings.faults.append(str(error))
    findings.faults += renamed(folder)
    absent = set(missing_images(images, part_of_image(split))) if split else set()
    if absent and not any("are missing" in fault for fault in findings.faults):
        findings.faults += tally(f"images listed in {file.name} that are missing, so put them back", sorted(absent))
    paths = {name: [path for path in of_class if path not in absent] for name, of_class in paths.items()}
    everything = [path for of_class in paths.values() for path in of_class]
    looks = {look.path: look for look in look_at(everything, images, closely=True)}
    patients = known_patients(folder, everything, images)
    seen = Inspection(
        {name: [looks[path] for path in of_class] for name, of_class in paths.items()},
        part_of_image(parts) if parts else {},
        patients.of,
        faults=findings.faults,
        warnings=findings.warnings,
        notes=[*findings.notes, *patients.notes],
    )
    seen.look_for_faults()
    return seen


def _range(sizes: list[tuple[int, int]]) -> str:
    """Return the most common size, and the smallest and largest if they differ."""
    if not sizes:
        return "-"
    (width, height), _ = Counter(sizes).most_common(1)[0]
    low, high = (choose(sizes, key=lambda size: size[0] * size[1]) for choose in (min, max))
    extent = f" ({low[0]}x{low[1]} to {high[0]}x{high[1]})" if low != high else ""
    return f"{width}x{height}{extent}"
