"""Where this project's own files are: in a checkout of the repository, or inside the installed package."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_ABOVE = PACKAGE.parent
IN_CHECKOUT = all((_ABOVE / name).exists() for name in ("pyproject.toml", "trainers", "configs"))
HOME = _ABOVE if IN_CHECKOUT else PACKAGE
"""The folder that holds trainers/, datasets/ and configs/."""


# The programs of a checkout whose names are not the commands' own.
_FRONTS = {
    "train": "train.py",
    "predict": "predict.py",
    "evaluate": "evaluate.py",
    "report": "report.py",
    "tables": "parse_test_res.py",
    "export": "scripts/export_prompt.py",
    "interpret": "scripts/interpret_prompt.py",
    "transfers": "scripts/transfer.py",
}


def work_folder() -> Path:
    """Where runs write and plugins are: the checkout, or the current folder for an installed package."""
    return _ABOVE if IN_CHECKOUT else Path.cwd()


def cache_folder() -> Path:
    """Where features of frozen towers are cached: the checkout's cache/, or the user's cache folder."""
    if IN_CHECKOUT:
        return _ABOVE / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ogkd"


def command(name: str, *words: object) -> str:
    """What to type for a command of this project where the user is: `python scripts/check_data.py ...` in a checkout,
    `ogkd check-data ...` elsewhere. Words are quoted where a shell needs it."""
    program = f"ogkd {name}"
    if IN_CHECKOUT:
        program = f"python {_FRONTS.get(name) or 'scripts/' + name.replace('-', '_') + '.py'}"
    return " ".join([program, *(shlex.quote(str(word)) for word in words)])


def install_command(extra: str) -> str:
    """What to type to install the packages of an extra."""
    return f"pip install '{'.' if IN_CHECKOUT else 'ogkd'}[{extra}]'"
