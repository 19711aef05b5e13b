"""One file over HTTP: resumed where it broke off, checked against the sizes and hashes that the server announces."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path

from dassl.utils import UserError, progress

CHUNK = 1 << 20
BROKEN = (OSError, http.client.HTTPException)  # of a connection; what goes wrong on the disk is a UserError
TEMPORARY = {408, 425, 429, 500, 502, 503, 504}  # answers after which asking again may help


class TransferError(Exception):
    """A file could not be had from one place; the message is a phrase without a full stop."""


@dataclass(frozen=True)
class Announcement:
    """What a server said of the file that a partial download belongs to."""

    url: str
    validator: str = ""  # for If-Range; empty: what is there cannot be continued safely
    size: int = -1  # bytes of the whole file; -1: not said
    sha256: str = ""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the first answer's headers: the hub tells a file's hash there and sends the client elsewhere for it."""

    def __init__(self) -> None:
        self.first: Message | None = None

    def http_error_302(self, req, fp, code, msg, headers):  # type: ignore[no-untyped-def]
        self.first = self.first or headers
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@contextlib.contextmanager
def _open(url: str, timeout: float, headers: dict[str, str]) -> Iterator[tuple[http.client.HTTPResponse, str]]:
    """The answer to a GET and the file's SHA-256 where the server tells it, else ""."""
    redirects = _Redirects()
    own = {"User-Agent": "ogkd-download", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=own | headers)
    with urllib.request.build_opener(redirects).open(request, timeout=timeout) as answer:
        told = (redirects.first or answer.headers).get("X-Linked-Etag", "").strip('"')
        yield answer, told if len(told) == 64 else ""


def download(
    url: str, target: Path, *, beside: float = 0.0, attempts: int = 4, pause: float = 1.0, timeout: float = 30.0
) -> None:
    """Put the file at `url` to `target`, continuing `target`.part where an earlier call left one.

    A broken transfer is taken up again after a pause that doubles; `attempts` in a row without a new byte end it, and
    the part stays for the next call. It is continued only if the server still has the same file (If-Range), else begun
    anew. Raises TransferError, or UserError when the disk has no room for the file and `beside` times its size.
    """
    part = target.with_name(f"{target.name}.part")
    note = target.with_name(f"{target.name}.part.json")
    failures = 0
    while True:
        before = _size(part)
        try:
            known = _receive(url, part, note, beside, timeout)
            break
        except urllib.error.HTTPError as error:
            if error.code not in TEMPORARY:
                raise TransferError(f"{url} answers {error.code} {error.reason}") from error
            reason = f"{url} answers {error.code} {error.reason}"
        except BROKEN as error:
            reason = f"the connection to {url} failed ({getattr(error, 'reason', None) or error or 'broken off'})"
            if _size(part) > before:
                failures = 0
        failures += 1
        if failures >= attempts:
            kept = f", {_size(part) / 1e6:.1f} MB are kept" if _size(part) else ""
            raise TransferError(f"{reason}{kept}")
        time.sleep(pause * 2 ** (failures - 1))
    if known.sha256 and _sha256(part) != known.sha256:
        part.unlink()
        note.unlink(missing_ok=True)
        raise TransferError(f"what {url} sent is damaged (its SHA-256 is not the announced one)")
    part.replace(target)
    note.unlink(missing_ok=True)


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _receive(url: str, part: Path, note: Path, beside: float, timeout: float) -> Announcement:
    """Fetch what `part` lacks. Raises one of BROKEN when the server stops early."""
    known = _recall(note)
    have = _size(part) if known is not None and known.url == url and known.validator else 0
    if have and have == known.size:
        return known
    headers = {"Range": f"bytes={have}-", "If-Range": known.validator} if have else {}
    try:
        with _open(url, timeout, headers) as (answer, sha256):
            if answer.status == 206 and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise http.client.HTTPException("it sent another range than the one asked for")
            if answer.status != 206:
                have = 0
            length = answer.headers.get("Content-Length", "")
            size = have + int(length) if length.isdigit() else -1
            known = Announcement(url, _validator(answer.headers), size, sha256)
            purpose = f"{part.name.removesuffix('.part')}{' and what is in it' if beside else ''}"
            require_space(part.parent, max(size - have, 0) + int(max(size, 0) * beside), purpose)
            _remember(known, note)
            _append(answer, part, have, size)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink(missing_ok=True)  # what is here is no beginning of what is there
        raise http.client.HTTPException("it has a shorter file than before") from error
    if size >= 0 and _size(part) < size:
        raise http.client.HTTPException(f"broken off after {_size(part)} of {size} bytes")
    return known


def _append(answer: http.client.HTTPResponse, part: Path, have: int, size: int) -> None:
    name = part.name.removesuffix(".part")
    total = size if size >= 0 else None
    with progress(None, f"Downloading {name}", total=total, unit="B") as bar, contextlib.ExitStack() as stack:
        with writing(name, part.parent):
            file = stack.enter_context(open(part, "r+b" if have else "wb"))
            file.seek(have)
            file.truncate()
        bar.update(have)
        while chunk := answer.read1(CHUNK):
            with writing(name, part.parent):
                file.write(chunk)
                file.flush()
            bar.update(len(chunk))


def _validator(headers: Message) -> str:
    """What If-Range can compare: a strong ETag, or the date of the last change."""
    etag = headers.get("ETag", "")
    return headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _recall(note: Path) -> Announcement | None:
    try:
        return Announcement(**json.loads(note.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None  # no note, or one that a crash cut short: the part cannot be continued


def _remember(known: Announcement, note: Path) -> None:
    temporary = note.with_name(f"{note.name}.new")
    with writing(note.name, note.parent):
        temporary.write_text(json.dumps(asdict(known)), encoding="utf-8")
        temporary.replace(note)


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    name = file.name.removesuffix(".part")
    with open(file, "rb") as content, progress(None, f"Checking {name}", total=_size(file), unit="B") as bar:
        while chunk := content.read(CHUNK):
            digest.update(chunk)
            bar.update(len(chunk))
    return digest.hexdigest()


def read_small(url: str, *, most: int = 64 << 20, attempts: int = 3, pause: float = 1.0) -> bytes:
    """The content of a small file at `url`, `most` bytes at most. Raises TransferError."""
    for attempt in range(attempts):
        try:
            with _open(url, 30.0, {}) as (answer, _):
                content = answer.read(most + 1)
                if answer.length and len(content) <= most:
                    raise http.client.HTTPException(f"broken off, {answer.length} bytes are lacking")
            if len(content) > most:
                raise TransferError(f"{url} is larger than the {most >> 20} MiB that it may have")
            return content
        except urllib.error.HTTPError as error:
            reason = f"{url} answers {error.code} {error.reason}"
            if error.code not in TEMPORARY:
                break
        except BROKEN as error:
            reason = f"the connection to {url} failed ({getattr(error, 'reason', None) or error or 'broken off'})"
        if attempt + 1 < attempts:
            time.sleep(pause * 2**attempt)
    raise TransferError(reason)


def brief(error: Exception) -> str:
    """An error's text on one line, as a part of a sentence; its kind where it has no text."""
    return " ".join(str(error).split())[:200].rstrip(".:") or type(error).__name__


def require_space(folder: Path, wanted: int, purpose: str, instead: str = "give another --root") -> None:
    """Raise UserError unless `wanted` bytes and a little more are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    reserve = 64 << 20
    if wanted + reserve > free:
        raise UserError(
            f"Not enough space in {folder} for {purpose}: it needs {wanted / 1e9:.2f} GB and {free / 1e9:.2f} GB are "
            f"free; free some or {instead}."
        )


@contextlib.contextmanager
def writing(what: str, folder: Path) -> Iterator[None]:
    """Turn a disk that is full or not writable into the sentence that says so (UserError)."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"Cannot write {what} to {folder} ({error.strerror or error}): make room there or give another place, then "
            "run this again; what is complete is kept."
        ) from error
