"""Small helpers for files and names; files are written atomically."""

from __future__ import annotations

import contextlib
import difflib
import errno
import json
import math
import os
import platform
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ogkd.core.errors import MissingFile, UserError, WrongValue

SECONDS_PER_DAY = 86_400


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` if the block succeeds and is removed if it fails.

    The block creates a file there, or a folder, which may replace only an empty or absent one. The content is flushed
    to disk before it is renamed, so a reader sees either the old file or the whole new one, even after a power failure.
    Temporary names are unique across processes and across machines that share a disk.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.part")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
        _flush(path.parent, content=False)
    finally:
        _remove(temporary)


def sweep(folder: str | Path) -> None:
    """Remove temporary files that killed processes left in a folder: those whose process is dead, or a day old.

    Whether a process on another machine is alive cannot be known; its files are removed after a day.
    """
    for path in Path(folder).glob(".*.part"):
        with contextlib.suppress(OSError):  # another process may be sweeping too
            if _abandoned(path):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "host"


def _flush(path: Path, content: bool = True) -> None:
    if path.is_dir() and content and hasattr(os, "sync"):
        os.sync()  # once for all files in the folder, which is faster than syncing each
        return
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(path: Path) -> bool:
    owner = re.fullmatch(r"\..*\.(\w+)-(\d+)-[0-9a-f]{8}\.part", path.name)
    if owner and owner[1] == _host() and os.name != "nt":  # Windows has no harmless signal to ask with
        try:
            os.kill(int(owner[2]), 0)
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            pass
    return time.time() - path.stat().st_mtime > SECONDS_PER_DAY


def expanded(path: str | Path) -> str:
    """Expand a leading `~` or `~name`.

    Raises:
        UserError: there is no such user.
    """
    path = os.fspath(path)
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UserError(f"There is no home folder for {Path(path).parts[0]}: write out the path {path}.") from None


def read_json(fpath: str | Path) -> Any:
    """Read a JSON file. Raises UserError if it is missing or not valid JSON (NaN and Infinity are not)."""
    try:
        return parse_json(Path(fpath).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(f"There is no file {fpath}.") from None
    except ValueError as error:
        raise UserError(f"{fpath} is not valid JSON ({error}): replace it with an intact copy.") from None


def parse_json(text: str) -> Any:
    """Parse a JSON text. Raises ValueError if it is not valid JSON (NaN and Infinity are not)."""
    return json.loads(text, parse_constant=_reject)


def _reject(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def write_json(obj: object, fpath: str | Path) -> None:
    """Write JSON atomically; a missing folder is created.

    Raises:
        UserError: a number in it is not finite, which JSON cannot express. Nothing is written.
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        if (place := _not_finite(obj)) is None:  # a circular object
            raise
        raise UserError(f"{fpath} is not written: {place or 'its content'} is not a finite number.") from None
    Path(fpath).parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(fpath) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _not_finite(value: object, place: str = "") -> str | None:
    """Return the place of the first number that is not finite, such as "training.loss.3", or None."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    result = (_not_finite(one, f"{place}.{name}" if place else str(name)) for name, one in inner)
    return next((one for one in result if one is not None), None)


def get_most_similar_str_to_a_from_b(a: str, b: Sequence[str]) -> str:
    """Return the string of b that is most similar to a, in any case."""
    return max(b, key=lambda other: difflib.SequenceMatcher(None, a.casefold(), other.casefold()).ratio())


def did_you_mean(word: str, names: Sequence[str]) -> str:
    """Return " (did you mean 'NAME'?)", to follow a word that is none of the names; "" if none is similar."""
    near = difflib.get_close_matches(word.casefold(), [name.casefold() for name in names], n=1)
    return f" (did you mean '{get_most_similar_str_to_a_from_b(word, names)}'?)" if near else ""


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Raise UserError, suggesting the nearest name, if the requested one is not available."""
    if requested not in available:
        near = did_you_mean(requested, available)
        raise WrongValue(f"There is no '{requested}'{near}; there are {', '.join(available)}.")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, says that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
