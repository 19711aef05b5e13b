"""Sentences for the end of the page: what could not be read, and remarks on the runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Notes:
    """private: sentences must not quote file contents, which may include names of images."""

    private: bool = False
    unread: dict[str, None] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    def unreadable(self, what: str, error: object, root: Path | None = None) -> None:
        """Record a run, or a file of a run, that could not be used."""
        reason = str(error).replace(f"{root}/", "") if root else str(error)
        self.unread[f"{what}: the file is corrupt or not what it should be." if self.private else reason] = None

    def remark(self, sentence: str) -> None:
        """Record a remark on the runs for readers of the tables; repeated ones count once."""
        self.remarks[sentence] = None
