"""The hashes with which git and the Hugging Face hub identify a file's content."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ogkd.core import progress


def git_blob_sha1(content: bytes) -> str:
    """Return git's hash of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def matches_etag(file: Path, etag: str, name: str) -> bool:
    """Whether a file's content matches the hub's ETag: a SHA-256 for large files, git's hash for small ones.

    Returns True for an ETag of any other form, which says nothing about the content. Progress shows `name`.
    """
    if len(etag) == 40:
        return git_blob_sha1(file.read_bytes()) == etag
    if len(etag) != 64:
        return True
    digest = hashlib.sha256()
    with open(file, "rb") as content, progress(None, f"Checking {name}", total=file.stat().st_size, unit="B") as bar:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest() == etag
