"""One process at a time: a lock file that the others wait for."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

SECONDS_BEFORE_SAYING_SO = 1.5


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; while another process holds it, wait, and say so after a moment.

    The system releases the lock of a process that is killed. The file is removed at the end. `what` names the work, as
    in "Waiting for <what>, which another process is doing". If the file system has no locks, a warning says so and
    nothing is locked. Raises OSError if the file cannot be created.
    """
    from filelock import FileLock

    lock = FileLock(path)
    try:
        _acquire(lock, path, what)
        with contextlib.suppress(OSError):  # Windows does not allow writing to a locked file
            path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
    except (NotImplementedError, OSError) as error:
        if isinstance(error, PermissionError) or (isinstance(error, OSError) and not path.is_file()):
            raise
        print(
            f"warning: the file system of {path.parent} has no locks: do not start {what} twice at once.",
            file=sys.stderr, flush=True,
        )  # fmt: skip
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows cannot remove an open file
            path.unlink()
        lock.release()


def _acquire(lock: BaseFileLock, path: Path, what: str) -> None:
    from filelock import Timeout

    try:
        lock.acquire(timeout=SECONDS_BEFORE_SAYING_SO)
    except Timeout:
        try:
            holder = path.read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            holder = ""
        print(f"Waiting for {what}, which {holder or 'another process'} is doing.", file=sys.stderr, flush=True)
        lock.acquire()
