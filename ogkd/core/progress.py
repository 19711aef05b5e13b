"""Progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import cast

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class PlainProgress:
    """tqdm's interface in plain lines: at most one every 10 seconds, and one at the end if it took longer."""

    def __init__(self, iterable: Iterable | None, desc: str, total: int | None, unit: str) -> None:
        self.iterable, self.desc, self.total, self.unit = iterable, desc, total, unit
        self.n: float = 0
        self.printed: float = 0
        self.start = self.last = time.monotonic()

    def update(self, n: float = 1) -> None:
        self.n += n
        now = time.monotonic()
        if now - self.last >= SECONDS_BETWEEN_LINES:
            self.last = now
            self._line(now)

    def _line(self, now: float) -> None:
        self.printed = self.n
        of = f"/{self.total} {self.unit}" if self.total else f" {self.unit}"
        print(f"{self.desc}: {self.n}{of}, {now - self.start:.0f} s", flush=True)

    def __iter__(self) -> Iterator:
        with self:
            for item in cast(Iterable, self.iterable):
                yield item
                self.update()

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self.last > self.start and self.n > self.printed:
            self._line(time.monotonic())


def progress(
    iterable: Iterable | None = None, desc: str = "", total: int | None = None, unit: str = "it"
) -> tqdm | PlainProgress:
    """Show progress through an iterable, or count with .update(n) in a with block."""
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if sys.stderr.isatty():
        return tqdm(iterable, desc, total, unit=unit, leave=False, dynamic_ncols=True)
    return PlainProgress(iterable, desc, total, unit)
