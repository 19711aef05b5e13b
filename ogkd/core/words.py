"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with what is counted.

    >>> counted(1, "fault"), counted(2, "fault"), counted(0, "image is", "images are")
    ('1 fault', '2 faults', '0 images are')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
