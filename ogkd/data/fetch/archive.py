"""Reads images from an untrusted zip or folder, at any depth."""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

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


class Source(Protocol):
    """Files by path (with forward slashes): their sizes in bytes, and methods to copy or read one."""

    sizes: dict[str, int]

    def copy(self, path: str, target: Path) -> None: ...

    def read(self, path: str) -> bytes: ...


class ZipSource:
    """The members of a zip; a single harmful member raises ArchiveError for the whole zip. Use as a context manager."""

    def __init__(self, file: Path, limits: Limits) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except CORRUPTION as error:
            raise ArchiveError(f"{file.name} is not a complete zip file ({_look(file) or error})") from error
        try:
            self._members = _checked(self._zip.infolist(), file.stat().st_size, limits)
        except ArchiveError:
            self._zip.close()
            raise
        self.sizes = {path: info.file_size for path, info in self._members.items()}

    def __enter__(self) -> ZipSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def copy(self, path: str, target: Path) -> None:
        """Unpack one member and check its checksum and size. Raises ArchiveError, or UserError if the disk fails."""
        try:
            with self._zip.open(self._members[path]) as content:
                size = _pump(content, target)
        except CORRUPTION as error:
            raise ArchiveError(f"its member {path} is corrupt ({str(error).rstrip('.') or 'truncated'})") from error
        if size != self.sizes[path]:
            raise ArchiveError(f"its member {path} has {size} bytes instead of {self.sizes[path]}")

    def read(self, path: str) -> bytes:
        try:
            return self._zip.read(self._members[path])
        except CORRUPTION as error:
            raise ArchiveError(f"its member {path} is corrupt ({str(error).rstrip('.') or 'truncated'})") from error


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


class FolderSource:
    """The files of a folder, except those in hidden or linked folders."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sizes: dict[str, int] = {}
        for place, subfolders, files in os.walk(folder):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for file in map(Path(place).joinpath, files):
                if file.is_file():
                    self.sizes[file.relative_to(folder).as_posix()] = file.stat().st_size

    def __enter__(self) -> FolderSource:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def copy(self, path: str, target: Path) -> None:
        try:
            with open(self._folder / path, "rb") as content:
                _pump(content, target)
        except OSError as error:
            raise ArchiveError(f"its file {path} cannot be read ({error.strerror or error})") from error

    def read(self, path: str) -> bytes:
        return (self._folder / path).read_bytes()


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
