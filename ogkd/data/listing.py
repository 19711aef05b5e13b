"""Lists the files in a folder: images, others, hidden ones, links."""

from __future__ import annotations

import os
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.images import begins_as_image, is_unread_kind
from ogkd.core.words import tally

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".dcm")

INDEX = "DICOMDIR"  # lists the files of a DICOM medium, and begins as they do
SYSTEM = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


@dataclass
class Listing:
    """The files in a folder and its subfolders as sorted paths relative to it, with forward slashes.

    Images are files with a suffix in `SUFFIXES`, and files of any name that begin as DICOM, PNG or JPEG. Linked folders
    are listed like others, but a folder that is reached twice is listed once, so loops end.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)  # files, and folders that were not entered
    linked: list[str] = field(default_factory=list)  # links to folders whose files are listed
    revisits: list[str] = field(default_factory=list)  # links to folders that are listed already or contain this one
    broken: list[str] = field(default_factory=list)  # links to nothing

    def unread(self) -> list[str]:
        """Return a phrase about the other files that are images or videos; [] if there are none."""
        what = "images or videos of kinds that are not read, and so not used until they are exported as PNG"
        return tally(what, [path for path in self.others if is_unread_kind(path)], kinds=True)

    def sort(self) -> Listing:
        for paths in vars(self).values():
            paths.sort()
        return self


def list_files(folder: str | Path) -> Listing:
    """Raises UserError if a folder cannot be listed or a name is not valid text."""
    listing, top = Listing(), Path(folder)
    real = top.resolve()
    listed = {str(place) for place in (real, *real.parents)}
    waiting, links = deque([""]), deque[str]()  # linked folders come last: a folder's own name goes before a link's

    def enter(path: str) -> bool:
        """Queue a folder, unless it is listed already."""
        place = os.path.realpath(top / path)
        new = place not in listed
        listed.add(place)
        (waiting if new else listing.revisits).append(path)
        return new

    while waiting or links:
        if not waiting:
            link = links.popleft()
            if not enter(link):
                continue
            listing.linked.append(link)
        if waiting[0]:
            listing.folders.append(waiting[0])
        for entry in _entries(top / waiting[0]):
            path = f"{waiting[0]}/{entry.name}".removeprefix("/")
            _check_name(path, top)
            if not shown(entry.name):
                listing.hidden.append(path)
            elif Path(entry.path).is_dir():  # False for a link to itself, at which entry.is_dir() raises OSError
                if entry.is_symlink():
                    links.append(path)
                else:
                    enter(path)
            elif entry.is_symlink() and not Path(entry.path).exists():
                listing.broken.append(path)
            else:
                is_image = entry.name.lower().endswith(SUFFIXES) or begins_as_image(Path(entry.path))
                is_image = is_image and entry.name.upper() != INDEX
                (listing.images if is_image else listing.others).append(path)
        waiting.popleft()
    return listing.sort()


def images_below(folder: str | Path) -> list[str]:
    """Return the images of `list_files`."""
    return list_files(folder).images


def shown(name: str) -> bool:
    """Whether a file or folder is neither hidden nor what macOS, Windows, Linux and network drives put there."""
    return not name.startswith(".") and name not in SYSTEM


def without_suffix(path: str) -> str:
    suffix = next((one for one in SUFFIXES if path.lower().endswith(one)), "")
    return path[: len(path) - len(suffix)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"Cannot list the folder {folder}: {error.strerror}.") from error


def _check_name(name: str, folder: Path) -> None:
    """Raise UserError for a name whose bytes are not valid text: neither a split file nor a prompt can hold it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise UserError(
            f"The name {os.fsencode(name)!r} in {folder} is not valid {encoding}, the encoding of file names here: "
            f"rename it{'' if encoding == 'utf-8' else ', or set PYTHONUTF8=1'}."
        ) from None
