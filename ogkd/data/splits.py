"""Split files in CoOp's format: {"train": [[path below the image folder, label, class name], ...], "val", "test"}."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ogkd.core import UserError, atomic_path
from ogkd.core.schema import Rule, mismatch, whole
from ogkd.data.catalogue import PARTS
from ogkd.data.names import name_faults, tidy


class Item(NamedTuple):
    path: str  # below the image folder, with forward slashes
    label: int
    classname: str


Split = dict[str, list[Item]]
_ENTRY = Rule(
    lambda entry: bool(len(entry) == 3 and isinstance(entry[0], str) and whole(entry[1]) and tidy(entry[2])),
    "[image, label, class name]",
)
SHAPE = {part: [_ENTRY] for part in PARTS}


def split_file(folder: str | Path, kind: str = "split") -> Path:
    """Return the path of the split file of a folder of images; or of its images' "patients", {image: patient}, or
    "groups", {image: {column: value}}, such as sex or site."""
    folder = Path(folder).absolute()
    return folder / f"{kind}_{folder.name}.json"


def renamed(folder: str | Path) -> list[str]:
    """A phrase if a folder without a split has one under another name, as after it was renamed; else []."""
    own, others = split_file(folder), sorted(Path(folder).glob("split_*.json"))
    if own.exists() or not others:
        return []
    return [
        f"{folder} has {others[0].name}, but its split must be called {own.name}, as when the folder was renamed: "
        "rename the file, and patients_… and groups_… beside it, or delete them for a new split"
    ]


def read_split(file: str | Path) -> Split:
    """Read and check a split file. Raises UserError if it is missing or not a valid split."""
    file = Path(file)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read the split file {file}: {error.strerror}.") from error
    return parse_split(content, str(file))


def parse_split(content: bytes, origin: str) -> Split:
    """Parse a split file's bytes. Labels must be 0..C-1, each with one class name; no image may be in two parts.

    Raises UserError with `origin` and the first fault.
    """

    def fault(what: str) -> UserError:
        return UserError(f"The split file {origin} is not usable, {what}: correct it or fetch it again.")

    try:
        raw = json.loads(content)
        wrong = mismatch(raw, SHAPE)
    except (ValueError, RecursionError) as error:
        raise fault(f"it is no JSON ({error})") from error
    if wrong:
        raise fault(wrong)
    split: Split = {}
    names: dict[int, str] = {}
    parts: dict[str, tuple[str, str]] = {}  # the part of each image by its normalised path
    for part in PARTS:
        if not raw[part]:
            raise fault(f'its list "{part}" is empty')
        split[part] = []
        for number, (path, label, classname) in enumerate(raw[part]):
            where = f"its {part}[{number}]"
            path, classname = path.replace("\\", "/"), tidy(classname)  # backslashes were written on Windows
            if not is_below(path):
                raise fault(f"{where} names an image outside the image folder, {path!r}")
            if names.setdefault(label, classname) != classname:
                raise fault(f"{where} calls label {label} {classname!r}, which is {names[label]!r} before")
            before, spelled = parts.setdefault(posixpath.normpath(path), (part, path))
            if before != part:
                also = "" if spelled == path else f" as {spelled!r}"
                raise fault(f'{where} names {path!r}, which is in "{before}" too{also}')
            split[part].append(Item(path, label, classname))
    if sorted(names) != list(range(len(names))):
        raise fault(f"its labels are not 0 to {len(names) - 1} without a gap")
    for wrong in name_faults(names.values()):
        raise fault(wrong)
    absent = sorted(set(names) - {item.label for item in split["train"]})
    if absent:
        raise fault(f"class {names[absent[0]]!r} has no image for training")
    return split


def is_below(path: str) -> bool:
    """Whether a relative path stays inside its folder, read both as POSIX and as Windows do."""
    pure = PurePosixPath(path.replace("\\", "/"))
    drive = path[1:2] == ":"
    return bool(pure.parts) and not pure.is_absolute() and ".." not in pure.parts and "\0" not in path and not drive


def class_names(split: Split) -> list[str]:
    """Return the class names in label order."""
    names = {item.label: item.classname for item in split["train"]}
    return [names[label] for label in sorted(names)]


def by_class(split: Split) -> dict[str, list[str]]:
    """Return class name -> paths of its images in all parts, in label order."""
    return {
        name: [item.path for part in PARTS for item in split[part] if item.label == label]
        for label, name in enumerate(class_names(split))
    }


def part_of_image(split: Split) -> dict[str, str]:
    """Return image -> its part."""
    return {item.path: part for part in PARTS for item in split[part]}


def fingerprint(split: Split) -> str:
    """Return the SHA-256 (hex) of the image paths and labels of the three parts and the class names."""
    parts = [[[item.path, item.label] for item in split[part]] for part in PARTS]
    return hashlib.sha256(json.dumps([parts, class_names(split)]).encode()).hexdigest()


def write_split(split: Split, file: str | Path) -> None:
    """Write `split` atomically. Raises OSError."""
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps({part: split[part] for part in PARTS}, indent=1), encoding="utf-8")


def missing_images(image_folder: str | Path, paths: Iterable[str]) -> list[str]:
    """Return the `paths` (relative to `image_folder`) where there is nothing, or a folder."""
    places = {path: os.path.join(image_folder, path) for path in paths}  # noqa: PTH118
    return [path for path, place in places.items() if not os.path.exists(place) or os.path.isdir(place)]  # noqa: PTH110, PTH112  never raise


def check_images(image_folder: str | Path, split: Split, split_file: str | Path, remedy: str) -> None:
    """Raise UserError if images listed in the split are missing, with their number, the first one and the remedy; or if
    one file is in two parts under two names, through a link or a case-insensitive file system."""
    parts = part_of_image(split)
    missing = missing_images(image_folder, parts)
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(parts)} images listed in {split_file} are missing (the first is "
            f"{Path(image_folder, missing[0])}): {remedy}."
        )
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for path, part in parts.items():
        status = Path(image_folder, path).stat()
        before, other = seen.setdefault((status.st_dev, status.st_ino), (part, path))
        if before != part and status.st_ino:  # 0 if the file system has no inode numbers
            raise UserError(
                f"{path} in the part {part} of {split_file} is the same file as {other} in the part {before}, so the "
                "test would be no test: remove one of the two."
            )
