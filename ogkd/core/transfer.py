"""Downloads files over HTTP: large ones with the Hugging Face hub's client, small ones with a plain request."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from ogkd.core import UserError, brief, is_disk_full
from ogkd.core.hashes import file_sha256, matches_etag
from ogkd.core.network import answer, status_of, trouble

TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # status codes after which a retry may help
PARTIAL = ".hub"  # suffix of a partial download
RESERVE = 64 << 20  # bytes that stay free on the disk

Content = TypeVar("Content")


class TransferError(Exception):
    """A file could not be downloaded from one server; the message is a phrase without a full stop."""


def download(
    url: str, target: Path, *, sha256: str | None = None, beside: float = 0.0, attempts: int = 3, pause: float = 1.0
) -> None:
    """Download a file from a Hugging Face hub to `target`, resuming a partial download.

    The hub's client transfers and resumes. The file's SHA-256 must be the given one or, without it, the one that the
    hub announces. Raises TransferError, or UserError if the disk has no room for the file and another `beside` times
    its size.
    """
    quiet_hub_client()
    try:
        with writing(target.name.lstrip("."), target.parent):
            _retried(url, lambda: _receive(url, target, sha256, beside), attempts, pause)
    except TransferError as error:
        rest = sum(part.stat().st_size for part in _partial(target))
        raise TransferError(f"{error}; {rest / 1e6:.1f} MB are kept" if rest else str(error)) from error.__cause__


def _receive(url: str, target: Path, sha256: str | None, beside: float) -> None:
    """Complete the partial file, whose name contains a hash of the ETag so that only the same content is resumed.

    `hf_hub_download` cannot do this: its later versions discard partial downloads.
    """
    from huggingface_hub import get_hf_file_metadata
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers

    announced = get_hf_file_metadata(url)
    if not announced.etag or announced.size is None:
        raise TransferError(f"{url} announces no ETag and size, as a Hugging Face hub does")
    name = target.name.lstrip(".")
    tag = hashlib.sha256(announced.etag.encode()).hexdigest()[:16]
    part = target.with_name(f"{target.name}.{tag}{PARTIAL}")
    for outdated in set(_partial(target)) - {part}:
        outdated.unlink()
    received = part.stat().st_size if part.exists() else 0
    if received > announced.size:
        received = 0
    needed = announced.size - received + int(announced.size * beside)
    require_space(target.parent, needed, f"{name} and its content" if beside else name)
    with contextlib.ExitStack() as stack:
        with writing(name, target.parent):
            file = stack.enter_context(open(part, "ab" if received else "wb"))
        http_get(
            url,
            file,
            resume_size=received,
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},  # ranges refer to the uncompressed file
            expected_size=announced.size,
            displayed_filename=name,
        )
    if not (file_sha256(part, name) == sha256 if sha256 else matches_etag(part, announced.etag, name)):
        part.unlink()
        whose = "published" if sha256 else "announced"
        raise TransferError(f"what {url} sent is corrupt (its SHA-256 differs from the {whose} one)")
    part.replace(target)


def _partial(target: Path) -> list[Path]:
    return list(target.parent.glob(f"{target.name}.*{PARTIAL}"))


def quiet_hub_client() -> None:
    """Silence the hub client's warnings, and its progress bars unless on a terminal."""
    from huggingface_hub.utils import disable_progress_bars, logging

    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        disable_progress_bars()


def read_small(url: str, *, most: int = 64 << 20, attempts: int = 3, pause: float = 1.0) -> bytes:
    """Download a small file's content, at most `most` bytes. Raises TransferError."""
    request = urllib.request.Request(url, headers={"User-Agent": "ogkd-download"})

    def read() -> bytes:
        with urllib.request.urlopen(request, timeout=30.0) as response:
            content = response.read(most + 1)
            if len(content) > most:
                raise TransferError(f"{url} is larger than {most >> 20} MiB, the most allowed")
            if response.length:
                raise http.client.HTTPException(f"it closed {response.length} bytes early")
            return content

    return _retried(url, read, attempts, pause)


def _retried(url: str, fetch: Callable[[], Content], attempts: int, pause: float) -> Content:
    """Call `fetch`; after a failure that may be temporary again, after `pause` seconds, which double each time.

    Raises TransferError. UserError, and OSError where the disk is full, are passed on.
    """
    for attempt in range(attempts):
        try:
            return fetch()
        except (TransferError, UserError):
            raise
        except Exception as error:  # the hub's client passes on errors of its HTTP library, which differ by version
            if is_disk_full(error):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            status, cause = status_of(error), error
        if (status is not None and status not in TEMPORARY) or attempt + 1 == attempts:
            break
        time.sleep(pause * 2**attempt)
    refusal = answer(status).removeprefix("it ") if status is not None else ""
    reason = "; ".join(filter(None, trouble(cause, "")))
    raise TransferError(f"{url} {refusal}" if refusal else f"the connection to {url} failed ({reason})") from cause


def require_space(folder: Path, wanted: int, purpose: str, instead: str = "choose another --root") -> None:
    """Raise UserError unless `wanted` bytes plus a small reserve are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if wanted + RESERVE > free:
        raise UserError(
            f"Not enough space in {folder} for {purpose}: {wanted / 1e9:.2f} GB needed, {free / 1e9:.2f} GB free; free "
            f"some space or {instead}."
        )


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn an OSError into a UserError that says which file and folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {what} to {folder} ({error.strerror or brief(error)}): free some space there or choose "
            "another folder, then run the same command again; complete files are kept."
        ) from error
