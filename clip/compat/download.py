"""Downloads OpenAI's published weights and checks them against the SHA-256 in their address."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

from ogkd.core.files import atomic_path
from ogkd.core.network import trouble

from .errors import CompatError


def fetch(url: str, folder: Path) -> Path:
    """Return the path in `folder` of the file at `url` (.../<SHA-256>/<name>), downloading it unless an intact copy
    exists.

    A file appears under its name only if its SHA-256 matches. Raises CompatError if it cannot be downloaded or written.
    """
    *_, expected, name = url.split("/")
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise CompatError(
            f"The address {url} has no SHA-256 to check {name} against: download it yourself and give the path."
        )
    target = folder / name
    if target.is_file():
        if _sha256(target) == expected:
            return target
        warnings.warn(f"{target} is not the published file (its SHA-256 differs), so it is replaced.", stacklevel=3)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            _receive(url, temporary)
            if _sha256(temporary) != expected:
                raise CompatError(
                    f"{url} did not send the published {name} (its SHA-256 differs): try again, or put an intact copy "
                    f"at {target}."
                )
    except CompatError:
        raise
    except Exception as error:  # the class depends on which HTTP library the hub's client uses
        reason, mend = trouble(error)
        raise CompatError(
            f"{name} cannot be downloaded from {url} to {folder} ({reason}): {mend}, or put an intact copy at {target}."
        ) from error
    return target


def _receive(url: str, path: Path) -> None:
    from huggingface_hub.file_download import http_get

    with open(path, "wb") as file:
        http_get(url, file, displayed_filename=url.rpartition("/")[2])


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
