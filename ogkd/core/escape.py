"""Names that others wrote, made safe for the format they are written in."""

from __future__ import annotations

import unicodedata

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def plain(name: str) -> str:
    """A name on one line, without control characters."""
    printable = (" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join("".join(printable).split())


def markdown(name: str) -> str:
    """A name or sentence on one line, escaped so that no part ends a cell or is HTML."""
    return plain(name).replace("|", r"\|").replace("<", "&lt;")


def no_formula(cell: str) -> str:
    """A cell that no spreadsheet interprets as a formula."""
    return f"'{cell}" if cell.startswith(FORMULA) else cell
