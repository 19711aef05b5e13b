"""Zips as they come from elsewhere, with names that Python's own writer would tidy."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO


def write_zip(
    file: Path | BinaryIO,
    members: dict[str, bytes],
    method: int = zipfile.ZIP_DEFLATED,
    links: Collection[str] = (),
) -> None:
    """Write `members`, name -> content, to `file`; those named in `links` as symbolic links to their content."""
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in members.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: the constructor would tidy it
            info.compress_type = method
            if name in links:
                info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            made.writestr(info, content)
