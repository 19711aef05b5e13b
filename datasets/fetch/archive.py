"""Images out of a zip or a folder that one need not trust, wherever in it they lie."""

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

from ..splits import is_below
from .transfer import writing

# what zipfile raises for damaged files, by Python's version and by where the damage is
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError, OverflowError)


class ArchiveError(Exception):
    """A zip or folder cannot be used; the message is a phrase without a full stop."""


@dataclass(frozen=True)
class Limits:
    """Beyond these a zip is taken for a bomb. The largest published set has 109,309 images and below 3 GB."""

    members: int = 500_000
    bytes: int = 20 << 30  # of all members together, unpacked
    ratio: float = 100.0  # unpacked to packed, once more than `slack` bytes come out
    slack: int = 64 << 20


class Source(Protocol):
    """Files by their path with forward slashes: path -> size in bytes, and a way to copy one out."""

    sizes: dict[str, int]

    def copy(self, path: str, target: Path) -> None: ...

    def read(self, path: str) -> bytes: ...


class ZipSource:
    """The members of a zip, refused as a whole when any of them could do harm. Use as a context manager."""

    def __init__(self, file: Path, limits: Limits) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except DAMAGE as error:
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
        """Unpack one member; its checksum and size are checked. Raises ArchiveError, or UserError for the disk."""
        try:
            with self._zip.open(self._members[path]) as content:
                size = _pump(content, target)
        except DAMAGE as error:
            raise ArchiveError(f"its member {path} is damaged ({str(error).rstrip('.') or 'cut off'})") from error
        if size != self.sizes[path]:
            raise ArchiveError(f"its member {path} has {size} bytes instead of {self.sizes[path]}")

    def read(self, path: str) -> bytes:
        try:
            return self._zip.read(self._members[path])
        except DAMAGE as error:
            raise ArchiveError(f"its member {path} is damaged ({str(error).rstrip('.') or 'cut off'})") from error


def _pump(content: IO[bytes], target: Path) -> int:
    """Copy everything (zipfile stops at the size that the zip's directory says) and give the bytes written."""
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
        return "it is no file"
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
            raise ArchiveError(f"its member {info.filename!r} would land outside the folder")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ArchiveError(f"its member {info.filename!r} is a link or a special file")
        if info.flag_bits & 1:
            raise ArchiveError(f"its member {info.filename!r} is encrypted")
        if not path.endswith("/"):
            members[path] = info
    unpacked = sum(info.file_size for info in infos)
    if unpacked > limits.bytes:
        raise ArchiveError(f"it would unpack to {unpacked / 1e9:.1f} GB, the most is {limits.bytes / 1e9:.1f} GB")
    if unpacked > limits.slack and unpacked > limits.ratio * packed:
        raise ArchiveError(f"it would unpack to {unpacked / max(packed, 1):.0f} times its size, as a zip bomb does")
    if sum(info.compress_size for info in infos) > packed:
        raise ArchiveError("its members overlap, as a zip bomb's do")
    return members


class FolderSource:
    """The files of a folder; hidden folders are left out, links to folders are not followed."""

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
    """What to put before each of `wanted` so that most of them are in `present`: "", "BTMRI/" or "a/b/".

    Among equals the shortest, then the first in order.
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
