"""Reads images from an untrusted zip or folder, at any depth."""

from __future__ import annotations

import contextlib
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ogkd.core.transfer import writing
from ogkd.data.splits import is_below

# which error zipfile raises for a corrupt file depends on Python's version and on the wrong bytes
CORRUPTION = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)


class ArchiveError(Exception):
    """A zip or folder that cannot be used; the message is a phrase without a full stop."""


@dataclass(frozen=True)
class Limits:
    """A zip beyond these limits is refused as a zip bomb. The largest published set has 109,309 images, under 3 GB."""

    members: int = 500_000
    bytes: int = 20 << 30  # of all members, unpacked
    ratio: float = 100.0  # unpacked to packed size, applied above `slack` unpacked bytes
    slack: int = 64 << 20


@dataclass(frozen=True)
class Source:
    """Files by path (with forward slashes). A context manager."""

    sizes: dict[str, int]  # in bytes
    open_file: Callable[[str], IO[bytes]] = lambda path: open(path, "rb")  # noqa: SIM115
    close: Callable[[], None] = lambda: None

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def copy(self, path: str, target: Path) -> None:
        """Copy a file and check its checksum and size. Raises ArchiveError, or UserError if the disk fails."""
        with _reading(path), self.open_file(path) as content:
            size = _pump(content, target)
        if size != self.sizes[path]:
            raise ArchiveError(f"its file {path} has {size} bytes instead of {self.sizes[path]}")

    def read(self, path: str) -> bytes:
        with _reading(path), self.open_file(path) as content:
            return content.read()


def opened(place: Path, limits: Limits) -> Source:
    """Return the files of a zip or folder; not those in hidden or linked folders.

    A single harmful member raises ArchiveError for the whole zip.
    """
    if place.is_dir():
        paths = [file.relative_to(place) for file in place.rglob("*") if file.is_file()]
        shown = [path for path in paths if not any(name.startswith(".") for name in path.parent.parts)]
        sizes = {path.as_posix(): (place / path).stat().st_size for path in shown}
        return Source(sizes, lambda path: open(place / path, "rb"))
    try:
        archive = zipfile.ZipFile(place)
    except CORRUPTION as error:
        raise ArchiveError(f"{place.name} is not a complete zip file ({_look(place) or error})") from error
    try:
        members = _checked(archive.infolist(), place.stat().st_size, limits)
    except ArchiveError:
        archive.close()
        raise
    sizes = {path: info.file_size for path, info in members.items()}
    return Source(sizes, lambda path: archive.open(members[path]), archive.close)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except CORRUPTION as error:
        reason = getattr(error, "strerror", None) or str(error).rstrip(".") or "truncated"
        raise ArchiveError(f"its file {path} is corrupt or cannot be read ({reason})") from error


def _pump(content: IO[bytes], target: Path) -> int:
    """Copy all content and return its size in bytes; zipfile itself stops at the size in the zip's directory."""
    with contextlib.ExitStack() as stack:
        with writing(target.name, target.parent):
            file = stack.enter_context(open(target, "xb"))
        while chunk := content.read(1 << 20):
            with writing(target.name, target.parent):
                file.write(chunk)
                file.flush()
        return file.tell()


def _look(file: Path) -> str:
    if not file.is_file():
        return "it is not a file"
    with open(file, "rb") as content:
        start = content.read(256).lstrip().lower()
    return "it is a web page" if start.startswith((b"<!doctype", b"<html")) else ""


def _checked(infos: list[zipfile.ZipInfo], packed: int, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    if len(infos) > limits.members:
        raise ArchiveError(f"it has {len(infos)} members, more than the {limits.members} allowed")
    members = {}
    for info in infos:
        path = info.filename.replace("\\", "/")
        mode = info.external_attr >> 16
        if not is_below(path):
            raise ArchiveError(f"its member {info.filename!r} would be unpacked outside the folder")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"its member {info.filename!r} is a link or a special file")
        if info.flag_bits & 1:
            raise ArchiveError(f"its member {info.filename!r} is encrypted")
        if not path.endswith("/"):
            members[path] = info
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.bytes:
        raise ArchiveError(f"it would unpack to {unpacked / 1e9:.1f} GB, over the limit of {limits.bytes / 1e9:.1f} GB")
    if unpacked > limits.slack and unpacked > limits.ratio * packed:
        raise ArchiveError(f"it would unpack to {unpacked / max(packed, 1):.0f} times its size, like a zip bomb")
    if sum(info.compress_size for info in infos) > packed:
        raise ArchiveError("its members overlap, as in a zip bomb")
    return members


def find_prefix(present: Iterable[str], wanted: Iterable[str]) -> str:
    """Return the prefix, such as "", "BTMRI/" or "a/b/", with which most of the `wanted` paths are `present`.

    Ties go to the shortest prefix, then to the first in alphabetical order.
    """
    by_name: dict[str, list[str]] = {}
    for path in present:
        by_name.setdefault(path.rpartition("/")[2], []).append(path)
    hits: Counter[str] = Counter()
    for want in wanted:
        for path in by_name.get(want.rpartition("/")[2], ()):
            if path == want or path.endswith(f"/{want}"):
                hits[path.removesuffix(want)] += 1
    return min(hits, key=lambda prefix: (-hits[prefix], len(prefix), prefix), default="")
