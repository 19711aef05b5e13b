"""Everything printed also goes to a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO


class Logger:
    """A stream that writes to the sys.stdout of its creation and, if a path is given, to a file."""

    def __init__(self, fpath: str | Path | None = None) -> None:
        self.stream = sys.stdout
        self.file: TextIO | None = None
        if fpath is not None:
            Path(fpath).parent.mkdir(parents=True, exist_ok=True)
            self.file = Path(fpath).open("w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115  open as long as the logger is

    def write(self, message: str) -> int:
        if self.file is not None:
            self.file.write(message)
        return self.stream.write(message)

    def flush(self) -> None:
        self.stream.flush()
        if self.file is not None and not self.file.closed:
            self.file.flush()

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def __getattr__(self, name: str) -> Any:
        """Whatever else a stream has, such as `isatty` and `encoding`, is that of sys.stdout."""
        return getattr(self.__dict__["stream"], name)


def setup_logger(output: str | None = None) -> Callable[[], None]:
    """Copy sys.stdout to `output` until the returned function is called. `output` is a .txt or .log file, or a folder,
    where log.txt is written. An existing log is renamed with its time. A second call replaces the first."""
    if not output:
        return lambda: None
    path = Path(output) if str(output).endswith((".txt", ".log")) else Path(output) / "log.txt"
    if path.is_file():
        path.replace(path.with_name(path.name + time.strftime("-%Y-%m-%d-%H-%M-%S")))
    if isinstance(sys.stdout, Logger):
        _end(sys.stdout)
    sys.stdout = logger = Logger(path)
    return lambda: _end(logger)


def _end(logger: Logger) -> None:
    if sys.stdout is logger:
        sys.stdout = logger.stream
    logger.flush()
    logger.close()
