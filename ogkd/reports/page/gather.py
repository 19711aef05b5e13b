"""Collecting the runs for a page: finished ones, unfinished ones, and files that could not be read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ogkd.core import UserError
from ogkd.evaluation.collect import Run, begun_below, folders_below, read_run, unfinished
from ogkd.reports.page.notes import Notes


@dataclass
class Material:
    """runs: the finished ones. diverged: those without a result because they diverged. waiting: (folder, last saved
    epoch) of unfinished ones. notes: what could not be read."""

    root: Path
    runs: list[Run] = field(default_factory=list)
    diverged: list[Run] = field(default_factory=list)
    waiting: list[tuple[Path, int]] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)

    def shown(self, path: Path) -> str:
        """A path as shown on the page: relative to the given folder, so that it reveals nothing about the machine."""
        try:
            return path.absolute().relative_to(self.root).as_posix()
        except ValueError:
            return path.name


def gather(places: Path | str | Iterable[Path | str]) -> Material:
    """All runs in one or several folders, which may be output folders or single run folders.

    Raises:
        UserError: a folder does not exist, or no run in them is finished.
    """
    folders = [Path(places)] if isinstance(places, Path | str) else [Path(place) for place in places]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} with results.")
    if not folders:
        raise UserError("A report needs at least one folder with results.")
    material = Material(Path(os.path.commonpath([folder.absolute() for folder in folders])))
    found = {path.absolute(): None for folder in folders for path in folders_below(folder)}
    for folder in found:
        try:
            run = read_run(folder)
            (material.diverged if run.diverged else material.runs).append(run)
        except UserError as error:
            material.notes.unreadable(material.shown(folder), error, material.root)
    waiting = dict(pair for folder in folders for pair in unfinished(folder.absolute()))
    material.waiting = sorted(waiting.items())
    if not material.runs:
        raise UserError(f"No run below {', '.join(map(str, folders))} is finished{begun_below(folders)}.")
    return material
