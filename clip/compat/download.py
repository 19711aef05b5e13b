"""OpenAI's published weights over HTTP, checked against the SHA-256 that their address names."""

from __future__ import annotations

import hashlib
import re
import warnings
from pathlib import Path

from clip.sources import first_line
from dassl.utils.files import atomic_path

from .errors import CompatError


def fetch(url: str, folder: Path) -> Path:
    """The file of `url`, .../<SHA-256>/<name>, in `folder`; downloaded unless an intact copy is there.

    The name is given only to what has that SHA-256. Raises CompatError when the file cannot be fetched or written.
    """
    *_, expected, name = url.split("/")
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise CompatError(
            f"The address {url} names no SHA-256 to check {name} against: download it yourself and give the path."
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
    except Exception as error:  # its class depends on the HTTP library that this version of the hub's client uses
        raise CompatError(
            f"{name} cannot be downloaded from {url} to {folder} ({first_line(error)}): check the network and the "
            f"disk, or put an intact copy at {target}."
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
