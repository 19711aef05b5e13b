"""Hashes of files: BLAKE2b here, git's and the hub's where these name a file. Unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ogkd.core.errors import UserError
from ogkd.core.files import atomic_path, sweep
from ogkd.core.progress import progress

READERS = 8
NUMBERS = 4  # in a file's signature
TOO_RECENT = 2 * 10**9  # nanoseconds: a file as recent as this may change again and keep its times


class FileMemory:
    """Texts computed from files, stored by name in the JSON file `path`; with None nothing is stored.

    A text is valid while the files' `signature` is unchanged. If the JSON file cannot be read it is ignored; if it
    cannot be written, the next run computes the texts again.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self._known, self._changed = path, {}, False
        if path is not None:
            try:
                value = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError):
                return
            self._known = value if isinstance(value, dict) else {}

    def get(self, name: str, signature: list) -> str | None:
        """Return the text called `name`, or None if its files have changed."""
        match self._known.get(name):
            case [known, str(text)] if known == signature:
                return text
        return None

    def put(self, name: str, signature: list, text: str) -> None:
        if self.path is not None and not is_recent(signature):
            self._known[name], self._changed = [signature, text], True

    def save(self) -> None:
        if self.path is None or not self._changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            sweep(self.path.parent)
            with atomic_path(self.path) as temporary:
                temporary.write_text(json.dumps(self._known))
        except OSError:  # with a full or read-only disk, the next run only takes longer
            return
        self._changed = False


def signature(*paths: str | Path) -> list[int]:
    """Return what changes when files are written: each one's size, modification time, change time and inode.

    Raises OSError.
    """
    value = [Path(path).stat() for path in paths]
    return [number for one in value for number in (one.st_size, one.st_mtime_ns, one.st_ctime_ns, one.st_ino)]


def stamp(path: str | Path) -> tuple[int, ...]:
    """Return a file's signature; () if it is missing, which is reported when it is read."""
    try:
        return tuple(signature(path))
    except (OSError, ValueError):
        return ()


def is_recent(signature: list[int]) -> bool:
    """Whether files were written so lately that they may change again and keep their times."""
    times = signature[1::NUMBERS] + signature[2::NUMBERS]
    return time.time_ns() - max(times) <= TOO_RECENT


def memory_file(cache: str | Path, folder: str | Path) -> Path | None:
    """Return the file in the cache folder that remembers the hashes of files below `folder`; None without a cache."""
    if not cache:
        return None
    folder = Path(folder).absolute()
    return Path(cache) / "hashes" / f"{folder.name}-{text_hash(str(folder))[:12]}.json"


def file_hashes(paths: Iterable[str], memory: FileMemory) -> dict[str, str]:
    """Return path -> hash of the file's bytes (BLAKE2b, 128 bits in hex).

    Raises:
        UserError: a file is missing or cannot be read.
    """
    now = {path: [*stamp(path)] for path in paths}
    hashes = {path: value for path in now if (value := memory.get(path, now[path])) is not None}
    _hashes.update((path, (now[path], value)) for path, value in hashes.items())
    waiting = [path for path in now if path not in hashes]

    def read(path: str) -> str:
        try:
            value = content_hash(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): replace it with an intact copy.") from None
        memory.put(path, now[path], value)
        return value

    with ThreadPoolExecutor(READERS) as pool:
        hashes.update(zip(waiting, progress(pool.map(read, waiting), "hash files", len(waiting), "file"), strict=True))
    memory.save()
    return {path: hashes[path] for path in now}


_hashes: dict[str, tuple[list[int], str]] = {}  # path -> signature and hash: a process reads each file's bytes once


def content_hash(path: str | Path) -> str:
    """Return the BLAKE2b hash of a file's bytes (128 bits in hex), which are read once while they are unchanged.

    Raises OSError.
    """
    now = signature(path)
    before, value = _hashes.get(str(path), (None, ""))
    if before != now:
        value = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
        if not is_recent(now):
            _hashes[str(path)] = now, value
    return value


def text_hash(value: object) -> str:
    """Return the SHA-256 (hex) of anything that JSON can express, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def remembered(memory: FileMemory, name: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """Return the text that `compute` makes from the files, or the remembered one if they are unchanged."""
    now = signature(*sorted(files))
    value = memory.get(name, now)
    if value is None:
        value = compute()
        memory.put(name, now, value)
        memory.save()
    return value


def git_blob_sha1(content: bytes) -> str:
    """Return git's hash of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def file_sha256(file: Path, name: str = "") -> str:
    """Return the SHA-256 (hex) of a file, which may be large; progress shows `name`. Raises OSError."""
    digest, size = hashlib.sha256(), file.stat().st_size
    with file.open("rb") as content, progress(None, f"Checking {name or file.name}", total=size, unit="B") as bar:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def matches_etag(file: Path, etag: str, name: str = "") -> bool:
    """Whether a file's content matches the hub's ETag: a SHA-256 for large files, git's hash for small ones.

    True for an ETag of any other form, which says nothing about the content.
    """
    if len(etag) == 40:
        return git_blob_sha1(file.read_bytes()) == etag
    return len(etag) != 64 or file_sha256(file, name) == etag
