"""Sentences for the page's end: what could not be read, and what a reader should know of the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Notes:
    """private: sentences may not quote what a file holds, since that may be the name of an image."""

    private: bool = False
    unread: dict[str, None] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    def unreadable(self, what: str, error: object, root: Path | None = None) -> None:
        """A run or a file of a run that could not be used."""
        reason = str(error).replace(f"{root}/", "") if root else str(error)
        self.unread[f"{what}: the file is corrupt or not what it should be." if self.private else reason] = None

    def remark(self, sentence: str) -> None:
        """Something about the runs that a reader of the tables should know; said once."""
        self.remarks[sentence] = None
