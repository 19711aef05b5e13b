"""One process at a time: a lock file that the others wait for."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

SECONDS_BEFORE_SAYING_SO = 1.5
SECONDS_BETWEEN_TRIES = 0.1
HAS_NO_PLACE = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)


@contextlib.contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path` during the block; while another process holds it, wait, and say so after a moment.

    The system releases the lock of a process that is killed. The file is removed at the end. `what` names the work, as
    in "Waiting for <what>, which another process is doing". If the file system has no locks, a warning says so and
    nothing is locked. Raises OSError if the file cannot be created.
    """
    from filelock import FileLock

    lock = FileLock(path)
    held = _acquire(lock, path, what)
    ours = held and type(lock) is FileLock  # filelock itself manages a lock that is only a file's presence
    try:
        if ours:
            with contextlib.suppress(OSError):  # Windows does not allow writing to a locked file
                path.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        if ours:
            with contextlib.suppress(OSError):  # Windows cannot remove an open file
                path.unlink()
        if held:
            lock.release()


def _acquire(lock: BaseFileLock, path: Path, what: str) -> bool:
    """Acquire the lock, waiting if needed; return False if the file system has no locks."""
    from filelock import Timeout

    began, reported = time.monotonic(), False
    while True:
        try:
            with warnings.catch_warnings():  # from filelock, when it falls back to the file's presence
                warnings.simplefilter("ignore")
                lock.acquire(timeout=0)
            return True
        except Timeout:
            pass
        except NotImplementedError:
            return _without_locks(path, what)
        except OSError as error:
            if isinstance(error, HAS_NO_PLACE) or not path.exists():
                raise
            return _without_locks(path, what)
        if not reported and time.monotonic() - began > SECONDS_BEFORE_SAYING_SO:
            reported = True
            print(f"Waiting for {what}, which {_holder(path)} is doing.", file=sys.stderr, flush=True)
        time.sleep(SECONDS_BETWEEN_TRIES)


def _holder(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return path.read_text(encoding="utf-8").strip() or "another process"
    return "another process"


def _without_locks(path: Path, what: str) -> bool:
    with contextlib.suppress(OSError):
        path.unlink()
    print(
        f"warning: the file system of {path.parent} has no locks: do not start {what} twice at once.",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return False
