"""Dassl's small helpers for files; those that this project uses too are in ogkd/core."""

from __future__ import annotations

import urllib.request
from pathlib import Path

from ogkd.core import (
    UserError,
    atomic_path,
    check_availability,
    get_most_similar_str_to_a_from_b,
    read_json,
    write_json,
)
from ogkd.core.images import read_image
from ogkd.core.torchtools import collect_env_info, set_random_seed

__all__ = [
    "check_availability", "check_isfile", "collect_env_info", "download_url", "get_most_similar_str_to_a_from_b",
    "listdir_nohidden", "mkdir_if_missing", "read_image", "read_json", "set_random_seed", "tolist_if_not", "write_json",
]  # fmt: skip


def download_url(url: str, dst: str | Path) -> None:
    """Download a file atomically.

    Raises:
        UserError: the download failed.
    """
    print(f'* url="{url}"\n* destination="{dst}"')
    try:
        with atomic_path(dst) as temporary:
            urllib.request.urlretrieve(url, temporary)
    except (OSError, ValueError) as error:
        raise UserError(f"{url} cannot be downloaded ({error}): fetch it by other means and put it at {dst}.") from None


def mkdir_if_missing(dirname: str | Path) -> None:
    """Create a folder and its parents."""
    Path(dirname).mkdir(parents=True, exist_ok=True)


def check_isfile(fpath: str | Path) -> bool:
    """Whether a file exists; prints a line if it does not."""
    exists = Path(fpath).is_file()
    if not exists:
        print(f"No file found at {fpath}")
    return exists


def listdir_nohidden(path: str | Path, sort: bool = False) -> list[str]:
    """List the names in a folder that do not begin with a dot."""
    names = [entry.name for entry in Path(path).iterdir() if not entry.name.startswith(".")]
    return sorted(names) if sort else names


def tolist_if_not(x: object) -> list:
    """Return a list as it is, and anything else as a list of one."""
    return x if isinstance(x, list) else [x]
