"""Reads the layout of a folder of images: which folders are classes, which are parts, and what is not used."""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ogkd.core.images import is_unread_kind
from ogkd.core.places import command
from ogkd.core.words import counted, tally
from ogkd.core.words import listed as words_for
from ogkd.data.beside import BESIDE, IMAGES, beside_by_name, words_of
from ogkd.data.catalogue import PARTS
from ogkd.data.findings import Findings
from ogkd.data.listing import INDEX, Listing, list_files, without_suffix
from ogkd.data.names import folded, name_faults, only_numbers
from ogkd.data.parts import TEST, TRAIN, parts_of, pieces_of_one, roles
from ogkd.data.splits import Split, class_names

Folders = dict[str, list[str]]  # a folder's name -> images in it, at any depth; "" has those in no folder
ASIDE = "files beside the images (masks, overlays, thumbnails)"
OR_TABLE = f", or give the table of their classes with `{command('split')} --labels`"
listed = partial(words_for, most=9)


@dataclass
class Layout(Findings):
    """What a folder holds. Paths are relative to it."""

    folder: Path
    listing: Listing
    classes: Folders = field(default_factory=dict)  # sorted
    parts: dict[str, str] = field(default_factory=dict)  # image -> train, val or test, if folders say so
    beside: list[str] = field(default_factory=list)  # masks, overlays, thumbnails
    whole: bool = False  # is it tested as a whole, so that one class is enough and parts do not matter?

    def misread(self, classnames: Collection[str]) -> list[str]:
        """Return a phrase if the classes of a split are the parts of this folder; else []."""
        if len(parts_of(classnames)) < len(classnames):
            return []
        return [f"the classes of the split in {self.folder} are parts ({listed(classnames)}): delete the split file"]

    def names(self, split: Split) -> bool:
        """Whether a class of a split has the name of a class folder."""
        return bool(set(map(folded, class_names(split))) & set(map(folded, self.classes)))

    def sorts(self, split: Split) -> bool:
        """Whether the class folders are the classes of a split, by any names; those of a table are mixed in folders."""
        folder_of = {path: name for name, paths in self.classes.items() for path in paths}
        pairs = {(folder_of[item.path], item.label) for part in PARTS for item in split[part] if item.path in folder_of}
        return len(pairs) == len({name for name, _ in pairs}) > 0

    def review(self, split: Split | None = None) -> Findings:
        """Return what is found about this folder when it is used with a stored split, or without one."""
        images = {path for paths in self.classes.values() for path in paths}
        used, result = images, Findings(faults=[*self.faults], warnings=[*self.warnings], notes=self.notes)
        if split is not None:
            used = {posixpath.normpath(item.path) for part in PARTS for item in split[part]}
            # a split that was written by hand may name the classes in its own way
            result.faults = self.misread(class_names(split)) + (self.faults if self.names(split) else [])
        wrong = tally(f"{ASIDE} in the split", [path for path in self.beside if path in used], kinds=True)
        result.faults += [f"{phrase}: delete the split file for one without them" for phrase in wrong]
        if numbers := only_numbers(self.classes if split is None else class_names(split)):
            result.warnings.append(f"{numbers}: give classes names that say what is seen")
        result.warnings += tally(f"{ASIDE} that are not used", [p for p in self.beside if p not in used], kinds=True)
        known = used.union(self.beside, images)
        loose = [path for path in self.listing.images if path not in known]
        of_table = split is not None and not self.names(split)
        where = "that are not in the split and" if of_table else "in no class folder, which are"
        result.warnings += tally(f"images {where} not used", loose, kinds=True)
        more = images - used if used & images else set()  # else the images of the split are not in class folders
        for name, paths in self.classes.items() if split is not None and self.sorts(split) else ():
            if more.issuperset(paths) and paths:
                more.difference_update(paths)
                result.faults.append(
                    f"the class folder {name} is not in the split, so its images ({len(paths)}) are not used: delete "
                    "the split file for a new one, or move the folder elsewhere"
                )
        result.warnings += tally("images that are not in the split and not used", sorted(more), kinds=True)
        return result


def read_layout(folder: str | Path, whole: bool = False) -> Layout:
    """Read the layout of a folder: <class>/**, <part>/<class>/** or <class>/<part>/**, each also within a folder that
    holds everything. `whole`: the folder is tested as a whole, see `Layout`.

    Raises UserError if a folder cannot be listed or a name is not valid text.
    """
    folder = Path(folder).absolute()
    listing = list_files(folder)
    layout = Layout(folder, listing, beside=beside_by_name(folder, listing.images), whole=whole)
    aside = set(layout.beside)
    base, images = _unwrapped([path for path in listing.images if path not in aside], listing)
    tops = by_folder(images, base)
    tops.pop("", None)
    if base:  # patients of one class also look like this, and have numbers
        remarks = layout.warnings if all(map(_has_digit, tops)) and not parts_of(tops) else layout.notes
        remarks.append(f"all images are in the folder {base}, so its folders are used ({listed(tops)})")
    parts, inner = parts_of(tops), {name: by_folder(paths, f"{base}{name}/") for name, paths in tops.items()}
    if not parts:
        _check_inside(layout, _read_classes(layout, base, inner))
    elif any(below.keys() - {""} for below in inner.values()):
        _check_inside(layout, _read_parts(layout, base, inner, parts))
    else:
        layout.faults.append(
            f"the folders {listed(parts)} in {folder / base} are parts, not classes, and have no folders: make one "
            f"folder per class in each of them{OR_TABLE}"
        )
    _check_names(layout)
    _say_what_else(layout)
    return layout


def by_folder(paths: Iterable[str], base: str = "") -> Folders:
    """Group images by the folder directly below `base`, which is "" or ends with "/"; sorted by the folder's name."""
    folders: Folders = defaultdict(list)
    for path in paths:
        name, slash, _ = path.removeprefix(base).partition("/")
        folders[name if slash else ""].append(path)
    return dict(sorted(folders.items()))


def _unwrapped(images: list[str], listing: Listing) -> tuple[str, list[str]]:
    """Return the folder that holds the class folders, "" or ending with "/", and the images in it: as long as all
    folders are in one folder, that is not a class."""
    base = ""
    while True:
        folders = by_folder(images, base)
        names = [name for name in folders if name]
        if len(names) != 1 or _empty_folders(listing, base, names):
            return base, images
        if "" in by_folder(folders[names[0]], f"{base}{names[0]}/"):  # it has images itself
            return base, images
        base, images = f"{base}{names[0]}/", folders[names[0]]


def _read_parts(layout: Layout, base: str, inner: Mapping[str, Folders], parts: dict[str, str]) -> Folders:
    """Read <part>/<class>/**; return class -> its images' paths below the class folder."""
    place = layout.folder / base
    if others := sorted(inner.keys() - parts.keys()):
        layout.faults.append(
            f"{place} has the parts {listed(parts)} beside other folders ({listed(others)}): if those are not used, "
            "move them elsewhere; if they are classes, rename the parts"
        )
    # in competitions, the images of the test lie in no class folder, as their labels are secret
    parts = {name: part for name, part in parts.items() if part != TEST or inner[name].keys() - {""}}
    spelled: dict[str, str] = {}  # what the spellings of a class folder's name share -> the first of them
    inside: Folders = defaultdict(list)
    has: dict[str, set[str]] = {}
    role, clause = roles(parts)
    ordered = sorted(parts, key=lambda name: (PARTS.index(role[parts[name]]), name))
    for name in ordered:
        start, below = f"{base}{name}/", {one: paths for one, paths in inner[name].items() if one}
        while len(below) == 1 and folded(next(iter(below))) in {folded(name), *IMAGES}:  # train/train, train/images
            start = f"{start}{next(iter(below))}/"
            below = {one: paths for one, paths in by_folder(next(iter(below.values())), start).items() if one}
        has[name] = {folded(one) for one in below}
        for one, paths in (below | _empty_folders(layout.listing, start, below)).items():
            classname = spelled.setdefault(folded(one), one)
            layout.classes[classname] = sorted([*layout.classes.get(classname, ()), *paths])
            inside[classname] += [path.removeprefix(f"{start}{one}/") for path in paths]
            layout.parts |= dict.fromkeys(paths, role[parts[name]])
    layout.classes = dict(sorted(layout.classes.items()))
    if nested := parts_of(layout.classes):
        layout.faults.append(
            f"the parts {listed(parts)} in {place} have parts themselves ({listed(nested)}): use one of them as the "
            "data folder"
        )
        return {}
    for name, names in has.items():
        lacking = [classname for one, classname in spelled.items() if one not in names]
        if lacking and not layout.whole:
            layout.faults.append(
                f"the part {name} in {place} has no images of {listed(lacking, last='or')}, unlike another part: all "
                "parts need the same classes"
            )
    _use(layout, ordered, role, clause)
    return inside


def _read_classes(layout: Layout, base: str, inner: Mapping[str, Folders]) -> Folders:
    """Read <class>/** or <class>/<part>/**; return class -> its images' paths below the class and part folder."""
    layout.classes = {name: sorted(path for paths in below.values() for path in paths) for name, below in inner.items()}
    layout.classes = dict(sorted({**layout.classes, **_empty_folders(layout.listing, base, inner)}.items()))
    parts = {name: parts_of(below.keys() - {""}) for name, below in inner.items()}
    every = {part: one for folders in parts.values() for one, part in folders.items()}
    if not any(part.startswith((TRAIN, "fold")) for part in every):
        return {name: [path.removeprefix(f"{base}{name}/") for path in paths] for name, paths in layout.classes.items()}
    inside: Folders = defaultdict(list)
    role, clause = roles({one: part for part, one in every.items()})
    for name, below in inner.items():
        lacking = sorted(every.keys() - set(parts[name].values()))
        others = [one or "no folder" for one in below if one not in parts[name]]
        if (lacking or others) and not layout.whole:
            wrong = f"no images in {listed(lacking, last='or')}" if lacking else f"images in {listed(others)}"
            layout.faults.append(
                f"the class folder {name} in {layout.folder} has {wrong}, while others are divided into "
                f"{listed(sorted(every))}: all need the same parts"
            )
        for one, part in parts[name].items():
            layout.parts |= dict.fromkeys(below[one], role[part])
            inside[name] += [path.removeprefix(f"{base}{name}/{one}/") for path in below[one]]
    _use(
        layout, [every[part] for part in sorted(every, key=lambda part: (PARTS.index(role[part]), part))], role, clause
    )
    return inside


def _use(layout: Layout, parts: Collection[str], role: Mapping[str, str], clause: str) -> None:
    """Say what the folders `parts`, in order, are used for; `role` is that of each part that they mean."""
    if layout.whole:
        layout.notes.append(f"the folders {listed(parts)} are taken together")
    elif TRAIN not in role.values():
        layout.faults.append(
            f"the parts in {layout.folder} ({listed(parts)}) have none for training: move all images of a class into "
            "one folder, and a split is made of them"
        )
    elif TEST not in role.values():
        layout.parts = {}
        layout.notes.append(f"only {listed(parts)} has class folders, and the split is made of its images")
    else:
        layout.notes.append(f"the folders {listed(parts)} are the split{clause}")


def _empty_folders(listing: Listing, base: str, others: Collection[str]) -> Folders:
    """Return the folders directly below `base` that have no images, other than those for masks or labels.

    others: the folders with images.
    """
    names = [path.removeprefix(base) for path in listing.folders if path.startswith(base) and path != base]
    return {name: [] for name in names if "/" not in name and name not in others and not BESIDE & set(words_of(name))}


def _check_inside(layout: Layout, inside: Mapping[str, list[str]]) -> None:
    """Find signs that the folders within the class folders are the classes."""
    inner = {name: _folders_in(paths) for name, paths in inside.items() if paths}
    names = {name: {folded(one) for one in folders} for name, folders in inner.items()}
    times = Counter(one for folders in names.values() for one in folders)
    common = {one for one in times if times[one] == len(inner)}
    # patients, who have numbers, may be in several classes, but hardly in all with no other
    if len(inner) > 1 and len(common) > 1 and (len(common) == len(times) or not any(map(_has_digit, common))):
        layout.faults.append(
            f"each class folder in {layout.folder} ({listed(inner)}) has folders of the same names "
            f"({listed(sorted(common))}), so it is not clear which are the classes: if the inner ones are, move them "
            "up and merge those of one name; if the outer ones are, give the inner ones different names; if the outer "
            "ones are parts, call them train, val and test"
        )
        return
    classes = {folded(name) for name in layout.classes}
    for name, folders in inner.items():
        if same := [one for one in folders if folded(one) in classes - {folded(name)}]:
            layout.faults.append(
                f"the folder {layout.folder / name / same[0]} has the name of another class: move or rename it"
            )
    shared = sorted(one for one in times if times[one] > 1)
    if len(times) > 1 and 2 * len(shared) > len(times):
        layout.warnings.append(
            f"folders within several class folders have the same names ({listed(shared)}); their images belong to the "
            "class of the outer folder"
        )
    # folders of patients, visits or series have numbers
    nested = [name for name, folders in inner.items() if len(folders) > 1 and not any(map(_has_digit, folders))]
    if nested:
        more = f", as in {counted(len(nested) - 1, 'more class folder')}" if nested[1:] else ""
        layout.warnings.append(
            f"the folders in the class folder {nested[0]} ({listed(inner[nested[0]])}) count as one class{more}: if "
            "they are classes, move them up"
        )


def _folders_in(paths: list[str]) -> list[str]:
    """Return the folders within a class folder, below those that all its images share."""
    folders = [path.split("/")[:-1] for path in paths]
    depth = next((depth for depth, places in enumerate(zip(*folders, strict=False)) if len(set(places)) > 1), None)
    depth = min(map(len, folders)) if depth is None else depth
    return sorted({places[depth] for places in folders if len(places) > depth})


def _has_digit(name: str) -> bool:
    return any(mark.isdigit() for mark in name)


def _check_names(layout: Layout) -> None:
    layout.faults += [f"in {layout.folder}, {fault}" for fault in name_faults(layout.classes)]
    if not layout.classes and not layout.faults:
        layout.faults.append(
            f"{layout.folder} has no class folders: put the images into one folder per class there{OR_TABLE}"
        )
    if len(layout.classes) == 1 and not layout.whole:
        layout.faults.append(
            f"{layout.folder} has one class folder, {next(iter(layout.classes))!r}: a classifier needs two or more"
        )
    elif pieces_of_one(layout.classes):
        layout.faults.append(
            f"the folders {listed(layout.classes)} in {layout.folder} are pieces of one set of images, not classes: "
            f"sort the images into one folder per class{OR_TABLE}"
        )
    strange = f"names of images in {layout.folder} have a backslash, as from an archive made on Windows"
    for phrase in tally(strange, [path for path in layout.listing.images if "\\" in path]):
        layout.faults.append(f"{phrase}: extract it with another program, or rename them")
    for phrase in tally(f"broken links in {layout.folder}", layout.listing.broken):
        layout.faults.append(f"{phrase}: repair or remove them")


def _is_index(path: str) -> bool:
    return path.rpartition("/")[2].upper() == INDEX


def _say_what_else(layout: Layout) -> None:
    listing = layout.listing
    others = [path for path in listing.others if "/" in path and not is_unread_kind(path) and not _is_index(path)]
    layout.warnings += listing.unread()
    layout.notes += [
        *tally("files in class folders that are not images and not used", others, kinds=True),
        *tally("DICOMDIR files, which list images and are skipped", [p for p in listing.others if _is_index(p)]),
        *tally("hidden files and folders, which are not used", listing.hidden),
        *tally("linked folders, which are followed", listing.linked),
    ]
    first_of: dict[str, str] = {}  # folder and name in small letters, without suffix -> image
    used = sorted(path for paths in layout.classes.values() for path in paths)
    alike = [path for path in used if first_of.setdefault(without_suffix(path).casefold(), path) != path]
    layout.warnings += tally("images with the name of another but for suffix or case, which may be copies", alike)
    revisits = "links that are not followed, to folders that are listed already or contain this"
    layout.warnings += tally(revisits, listing.revisits)
