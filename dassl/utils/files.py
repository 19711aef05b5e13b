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

from .errors import MissingFile, UserError, WrongValue

SECONDS_PER_DAY = 86_400


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, which replaces it when the block succeeds and is removed when it fails.

    The block makes a file there, or a folder, which replaces an empty or absent one. The content is flushed to the disk
    before it gets its name, so a reader sees the old file or the whole new one, after a power failure too. Temporary
    names are unique between processes and between machines that share a disk.
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
    """Remove what killed processes left of `atomic_path` in a folder: what has no living process, or is a day old.

    Whether a process of another machine that shares the disk is alive cannot be told: what it left goes after a day.
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
        os.sync()  # once for all the files in it, of which each would take a turn of the disk
        return
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
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
    """A path with the `~` or `~name` at its front written out.

    Raises:
        UserError: there is no such user.
    """
    path = os.fspath(path)
    if not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise UserError(f"There is no home folder of {Path(path).parts[0]}: write out {path}.") from None


def mkdir_if_missing(dirname: str | Path) -> None:
    """Make a folder and its parents."""
    Path(dirname).mkdir(parents=True, exist_ok=True)


def check_isfile(fpath: str | Path) -> bool:
    """Whether the file is there; says so when it is not."""
    found = Path(fpath).is_file()
    if not found:
        print(f"No file found at {fpath}")
    return found


def read_json(fpath: str | Path) -> Any:
    """Read a JSON file. Raises UserError when it is not there or not JSON, which has no NaN and no Infinity."""
    try:
        return parse_json(Path(fpath).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingFile(f"There is no file {fpath}.") from None
    except ValueError as error:
        raise UserError(f"{fpath} is not valid JSON ({error}): replace it with an intact copy.") from None


def parse_json(text: str) -> Any:
    """What a JSON text says. Raises ValueError when it is not JSON, which has no NaN and no Infinity."""
    return json.loads(text, parse_constant=_reject)


def _reject(constant: str) -> None:
    raise ValueError(f"it holds {constant}")


def write_json(obj: object, fpath: str | Path) -> None:
    """Write JSON atomically; the folder is made if it is missing.

    Raises:
        UserError: a number in it is not finite, which JSON cannot hold. Nothing is written.
    """
    try:
        text = json.dumps(obj, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        if (place := _not_finite(obj)) is None:  # a circular object
            raise
        raise UserError(f"{fpath} is not written: {place or 'its content'} is not a finite number.") from None
    mkdir_if_missing(Path(fpath).parent)
    with atomic_path(fpath) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def _not_finite(value: object, place: str = "") -> str | None:
    """Where the first number that is not finite stands, as in "training.loss.3"; None without any."""
    if isinstance(value, float):
        return None if math.isfinite(value) else place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    found = (_not_finite(one, f"{place}.{name}" if place else str(name)) for name, one in inner)
    return next((one for one in found if one is not None), None)


def listdir_nohidden(path: str | Path, sort: bool = False) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    names = [entry.name for entry in Path(path).iterdir() if not entry.name.startswith(".")]
    return sorted(names) if sort else names


def tolist_if_not(x: object) -> list:
    """The list itself, or a list of the one thing."""
    return x if isinstance(x, list) else [x]


def get_most_similar_str_to_a_from_b(a: str, b: Sequence[str]) -> str:
    """The string of b that looks most like a."""
    return max(b, key=lambda other: difflib.SequenceMatcher(None, a, other).ratio())


def check_availability(requested: str, available: Sequence[str]) -> None:
    """Raises UserError, with the nearest name, when the requested one is not available."""
    if requested not in available:
        near = get_most_similar_str_to_a_from_b(requested, available) if available else None
        hint = f" (did you mean '{near}'?)" if near else ""
        raise WrongValue(f"There is no '{requested}'{hint}; there are {', '.join(available)}.")


def is_disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, says that no space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
