"""Errors that a user can fix, and how every program reports them."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from ogkd.core.places import HOME

PROGRAMS = (HOME, HOME / "scripts", HOME / "phantom")  # the folders that hold programs
INTERRUPTED = 130
# What PyTorch says when a data loader's worker finds no shared memory, or is killed for want of memory.
_WORKER_ENDED = ("unable to allocate shared memory", "is killed by signal", "exited unexpectedly")


# New objects before a search for cyclic garbage, 700 by default: searches took a tenth of the time to a first step.
# So the first one comes after PyTorch and the model libraries, 800,000 objects, have been imported.
_FIRST_SEARCH, _SEARCHES = (1_000_000, 10, 10), (5_000, 10, 10)


class UserError(Exception):
    """One clear sentence that says what is wrong and how to fix it; shown without a traceback, exit code 2."""

    def __init__(self, message: str) -> None:
        # PyTorch re-raises an error from a data loader's worker with the worker's traceback as its message; the last
        # line of it holds the sentence.
        before, result, sentence = message.rpartition(f"{type(self).__name__}: ")
        super().__init__(sentence.strip() if result and before.startswith("Caught ") else message)


class Diverged(UserError, FloatingPointError):
    """Training whose loss, parameters or logits are no longer finite; its result is never stored.

    It is also a FloatingPointError, which Dassl raises. epoch and step count from 1; 0 means unknown. term: what is not
    finite, such as "loss", the name of a loss term or of a parameter, or "logits".
    """

    def __init__(self, message: str, epoch: int = 0, step: int = 0, term: str = "") -> None:
        super().__init__(message)
        self.epoch, self.step, self.term = epoch, step, term


class WrongValue(UserError, ValueError):
    """A UserError where Dassl raises ValueError."""


class MissingFile(UserError, FileNotFoundError):
    """A UserError where Dassl raises FileNotFoundError."""


class MissingKey(UserError, AttributeError):
    """A UserError where a configuration lacks a key, for which yacs raises AttributeError."""


def brief(error: object, most: int = 200) -> str:
    """An error's text on one line, as part of a sentence; at most `most` characters, cut between words. Its type if it
    has no text."""
    text = " ".join(str(error).split())
    if len(text) > most:
        cut = text[:most].rsplit(" ", 1)[0]
        text = f"{cut.rstrip('.:,;(')} ..."
    else:
        text = text.rstrip(".:")
    return text or type(error).__name__


def first_line(error: object) -> str:
    """The first line of an error's text, as `brief` gives it."""
    return brief(str(error).strip().split("\n")[0]) if str(error).strip() else type(error).__name__


def report_error(message: object) -> None:
    """Print one error sentence to stderr, as every program here does."""
    print(f"error: {message}", file=sys.stderr, flush=True)


def cause_of(error: BaseException) -> str | None:
    """Return a sentence on an error that the user can fix, with the fix; None for any other, which is a bug."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError):
        path = Path(str(error.filename or ""))
        place = path.parent if path.suffix == ".part" else path  # nobody knows the name of a half-written file
        where = f" ({place})" if error.filename else ""
        return f"{error.strerror or error}{where}; fix this and run the same command again."
    if is_out_of_memory(error):
        return "the GPU's memory is full: lower DATALOADER.TRAIN_X.BATCH_SIZE or FEATURES.IMAGES_AT_ONCE."
    if isinstance(error, RuntimeError) and any(sign in str(error) for sign in _WORKER_ENDED):
        return (
            "a process that loads images has ended, since memory or shared memory (/dev/shm) is full: set "
            "DATALOADER.NUM_WORKERS 0, or start the container with more (docker run --shm-size 1g)."
        )
    return None


@contextlib.contextmanager
def resumable() -> Iterator[None]:
    """An interrupt of the block is reported as one of runs, which resume."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command resumes after the last saved epoch") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is torch's out-of-memory error; compared by name, so that no program has to import torch."""
    return type(error).__name__ == "OutOfMemoryError"


def run_program(main: Callable[[], object]) -> int:
    """Run a program's main function and return its exit code.

    An error that the user can fix becomes one sentence on stderr and exit code 2; an integer that `main` returns is the
    exit code; an interrupt gives 130, with its text if it has any.
    """
    gc.set_threshold(*_FIRST_SEARCH)
    gc.callbacks.append(_after_first_search)
    try:
        return _exit_code(main)
    finally:
        gc.freeze()  # else Python looks through all modules once more as it ends: 1.5 s with PyTorch and open_clip


def _after_first_search(*_: object) -> None:
    gc.callbacks.remove(_after_first_search)
    gc.set_threshold(*_SEARCHES)


def _exit_code(main: Callable[[], object]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # file names may hold characters that the terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = main()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        sys.stdout = None  # keeps Python from flushing to it at exit
        return 0
    except KeyboardInterrupt as interrupt:
        print(f"\n{'; '.join(['Interrupted', *map(str, interrupt.args)])}.", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        sentence = cause_of(error)
        if sentence is None:
            raise
        report_error(sentence)
        return 2
    return code if isinstance(code, int) else 0


def _leave_quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Report an error raised before `run_program` begins, that is, during imports."""
    if issubclass(kind, KeyboardInterrupt):
        print("\nInterrupted.", file=sys.stderr, flush=True)
        os._exit(INTERRUPTED)
    sys.__excepthook__(kind, error, trace)


if sys.argv[0] == "-m" or Path(sys.argv[0]).resolve().parent in PROGRAMS:
    sys.excepthook = _leave_quietly
