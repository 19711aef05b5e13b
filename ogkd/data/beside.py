"""Finds files beside the images: masks, overlays, thumbnails; by their names, and by what they show."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ogkd.core.opening import look_at
from ogkd.core.words import listed
from ogkd.data.names import folded

CLASSES_TOO = {"mask", "masks", "masked", "thumb", "thumbs"}  # words that may also name a class
BESIDE = CLASSES_TOO | {
    "seg", "segm", "segs", "segmentation", "segmentations", "segmented", "label", "labels", "labelmap",
    "annotation", "annotations", "annotated", "overlay", "overlays", "contour", "contours", "outline",
    "outlines", "groundtruth", "truth", "gt", "roi", "rois", "thumbnail", "thumbnails", "tn",
    "preview", "previews", "heatmap", "heatmaps", "gradcam", "saliency", "bbox", "bboxes", "superpixel", "superpixels",
    "delineation", "delineations",
}  # fmt: skip
# What does not tell images from what belongs to them; "ground" is half of "ground truth".
IMAGES = {
    "image", "images", "img", "imgs", "im", "pic", "pics", "picture", "pictures", "photo", "photos", "original",
    "originals", "orig", "raw", "rgb", "scan", "scans", "frame", "frames", "ground", "data", "the", "of", "and",
    "png", "jpg", "jpeg", "tif", "tiff", "bmp",
}  # fmt: skip
ALL = 0.9  # the share of mask-like images in a data set from which they are the data set
SAMPLE = 8  # images of a folder that decide whether it holds masks

Words = tuple[str, ...]


def words_of(name: str) -> Words:
    """Split a name into its words, in lower case, and numbers: "IMG_01Mask" -> ("img", "01", "mask")."""
    return tuple(word.lower() for word in re.findall(r"[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+(?![a-z])|[A-Z]|\d+", name))


def beside_by_name(folder: Path, paths: Sequence[str]) -> list[str]:
    """Return those of the images `paths` (below `folder`) that belong to others of them.

    A file belongs to an image if its name is the image's with one more word, such as "_mask" or "thumb", in any
    spelling, with a number or without. A folder with such a name (masks, labels, ground_truth) belongs to the images if
    it lies beside them, holds the same folders as they do, or files of the same names; one named "mask" must then also
    look like masks, since that can be a class. So does "train_masks" beside "train".
    """
    apart = _beside_folders(folder, paths)
    matches = {path for path in paths if apart(path)}
    names: dict[str, set[Words]] = defaultdict(set)
    for path in paths:
        if not _has(BESIDE, path):
            names[path.rpartition("/")[0]].add(_core(path))
    matches |= {path for path in paths if _has(BESIDE, path) and _cores(path) & names[path.rpartition("/")[0]]}
    return sorted(matches)


def _beside_folders(folder: Path, paths: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that says whether an image lies in a folder of masks and the like."""
    below: dict[str, list[str]] = defaultdict(list)  # folder -> images in it, at any depth
    for path in paths:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            below["/".join(parts[:depth])].append(path)
    direct = {path.rpartition("/")[0] for path in paths}
    inner: dict[str, list[str]] = defaultdict(list)
    for place in below:
        inner[place.rpartition("/")[0]].append(place)

    def belongs(place: str) -> bool:
        words, rest, parent = set(words_of(_name(place))), _plain(_name(place)), place.rpartition("/")[0]
        siblings = [other for other in inner[parent] if not BESIDE & set(words_of(_name(other)))]
        if rest:  # train_masks beside train
            siblings = [other for other in siblings if _plain(_name(other)) == rest]
        if not words & BESIDE or (rest and not siblings):
            return False
        if not rest and (any(not _plain(_name(other)) for other in siblings) or (parent and parent in direct)):
            return True
        theirs = {folded(_name(one)) for other in siblings for one in (inner[other] if rest else [other])}
        if inner[place] and {folded(_name(one)) for one in inner[place]} <= theirs:
            return True
        others = [path for other in siblings for path in below[other]]
        names = {_core(path) for path in others}
        same = sum(bool(({_core(path)} | _cores(path)) & names) for path in below[place])
        if 2 * same < len(below[place]):
            return False
        return not words & CLASSES_TOO or _mostly_masks(folder, below[place]) > _mostly_masks(folder, others)

    matches = tuple(f"{place}/" for place in below if belongs(place))
    return lambda path: path.startswith(matches)


def _plain(name: str) -> Words:
    """The words of a folder's name that say neither "image" nor "mask"."""
    return tuple(word for word in words_of(name) if word not in IMAGES | BESIDE)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _has(words: set[str], path: str) -> bool:
    return not words.isdisjoint(words_of(Path(path).stem))


def _core(path: str) -> Words:
    """The words of a file's name without those that mean "image"."""
    return tuple(word for word in words_of(Path(path).stem) if word not in IMAGES)


def _cores(path: str) -> set[Words]:
    """The names that an image may have to which a file belongs: without the word, and without a number after it."""
    words = _core(path)
    core = tuple(word for word in words if word not in BESIDE)
    return {core, core[:-1]} - {()} if words[-1:] and words[-1].isdigit() else {core} - {()}


def _mostly_masks(folder: Path, paths: Sequence[str]) -> bool:
    looks = look_at(paths[:: max(1, len(paths) // SAMPLE)], folder)
    return 2 * sum(look.mask for look in looks) > len(looks)


def beside_by_content(classes: Mapping[str, Sequence[bool]]) -> list[str]:
    """Return a phrase about images that look like masks among others that do not; [] if there are none.

    classes: class name -> whether each of its images looks like a mask. A data set of nothing else is as it should be.
    """
    masks, total = sum(map(sum, classes.values())), sum(map(len, classes.values()))
    if not masks or masks >= ALL * total:
        return []
    if whole := [name for name, flags in classes.items() if flags and all(flags)]:
        return [f"all images of {listed(map(repr, whole))} have only a few colours, as masks do, unlike other classes"]
    parts = ", ".join(f"{sum(flags)} of {name!r}" for name, flags in classes.items() if any(flags))
    return [f"{masks} of {total} images have only a few colours, as masks do, unlike the others ({parts})"]
