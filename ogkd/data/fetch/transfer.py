"""Downloads files over HTTP: large ones with the Hugging Face hub's client, small ones with a plain request."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

from ogkd.core import UserError, brief, is_disk_full
from ogkd.core.hashes import matches_etag
from ogkd.core.network import trouble

CONNECTION_ERRORS = (OSError, http.client.HTTPException)
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # status codes after which a retry may help
PARTIAL = ".hub"  # suffix of a partial download


class TransferError(Exception):
    """A file could not be downloaded from one server; the message is a phrase without a full stop."""


def download(url: str, target: Path, *, beside: float = 0.0, attempts: int = 3, pause: float = 1.0) -> None:
    """Download a file from a Hugging Face hub to `target`, resuming a partial download.

    The hub's client transfers and resumes, and the SHA-256 that the hub announces is checked. A failure that may be
    temporary is retried after `pause` seconds, which double each time. Raises TransferError, or UserError if the disk
    has no room for the file and another `beside` times its size.
    """
    quiet_hub_client()
    for attempt in range(attempts):
        try:
            return _receive(url, target, beside)
        except (TransferError, UserError):
            raise
        except Exception as error:  # the client passes on errors of its HTTP library, which differ by version
            if is_disk_full(error):
                raise _unwritable(target.name.lstrip("."), target.parent, error) from error
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason, cause = _failed(url, error) if status is None else _answered(url, status), error
        if status is not None and status not in TEMPORARY:
            break
        if attempt + 1 < attempts:
            time.sleep(pause * 2**attempt)
    kept = sum(part.stat().st_size for part in _partial(target))
    raise TransferError(f"{reason}; {kept / 1e6:.1f} MB are kept" if kept else reason) from cause


def _receive(url: str, target: Path, beside: float) -> None:
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
    if not matches_etag(part, announced.etag, name):
        part.unlink()
        raise TransferError(f"what {url} sent is corrupt (its SHA-256 differs from the announced one)")
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
    reason: str
    cause: Exception
    for attempt in range(attempts):
        try:
            with urllib.request.urlopen(request, timeout=30.0) as answer:
                content = answer.read(most + 1)
                if answer.length and len(content) <= most:
                    raise http.client.HTTPException(f"it closed {answer.length} bytes early")
            if len(content) > most:
                raise TransferError(f"{url} is larger than {most >> 20} MiB, the most allowed")
            return content
        except urllib.error.HTTPError as error:
            reason, cause = _answered(url, error.code), error
            if error.code not in TEMPORARY:
                break
        except CONNECTION_ERRORS as error:
            reason, cause = _failed(url, error), error
        if attempt + 1 < attempts:
            time.sleep(pause * 2**attempt)
    raise TransferError(reason) from cause


def _answered(url: str, status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{url} answered {status} {HTTPStatus(status).phrase}"
    return f"{url} answered {status}"


def _failed(url: str, error: Exception) -> str:
    return f"the connection to {url} failed ({'; '.join(filter(None, trouble(error, '')))})"


def require_space(folder: Path, wanted: int, purpose: str, instead: str = "choose another --root") -> None:
    """Raise UserError unless `wanted` bytes plus a small reserve are free on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    reserve = 64 << 20
    if wanted + reserve > free:
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
        raise _unwritable(what, folder, error) from error


def _unwritable(what: str, folder: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or brief(error)
    return UserError(
        f"Cannot write {what} to {folder} ({reason}): free some space there or choose another folder, then run the "
        "same command again; complete files are kept."
    )
