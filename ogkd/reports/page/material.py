"""What a page is made of: the runs in some folders, and what has to be said about them at the end of the page."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ogkd.core import UserError
from ogkd.evaluation.collect import TRIAL, Run, begun_below, folders_below, read_run, unfinished
from ogkd.evaluation.limits import is_synthetic
from ogkd.reports.page.figures import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Material:
    """runs: the finished ones. diverged: those without a result because they diverged. waiting: (folder, last saved
    epoch) of unfinished ones. images: whether the page may show images and their names; None: only synthetic ones, as
    names and images may identify patients. drawings: all figures of the page. unread, remarks: sentences on files that
    could not be read and on the tables; keys of dicts, so that repeated ones count once."""

    root: Path
    images: bool | None = None
    runs: list[Run] = field(default_factory=list)
    diverged: list[Run] = field(default_factory=list)
    waiting: list[tuple[Path, int]] = field(default_factory=list)
    drawings: list[Drawing] = field(default_factory=list)
    unread: dict[str, None] = field(default_factory=dict)
    remarks: dict[str, None] = field(default_factory=dict)

    def shown(self, path: Path) -> str:
        """A path as shown on the page: relative to the given folder, so that it reveals nothing about the machine."""
        path = path.absolute()
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.name

    def shows(self, run: Run) -> bool:
        """Whether the page may show a run's images and their names."""
        return is_synthetic(run) if self.images is None else self.images

    @property
    def shows_all(self) -> bool:
        """Whether no image and no name is withheld, so that messages that may quote one can be shown."""
        return all(map(self.shows, [*self.runs, *self.diverged]))

    def draw(self, name: str, title: str, alt: str, figure: Figure) -> Drawing:
        """Add a figure to the page; see `Drawing`."""
        self.drawings.append(Drawing(name, title, alt, figure))
        return self.drawings[-1]

    def unreadable(self, path: Path, error: object) -> None:
        """Note a run, or a file of a run, that cannot be used. An error may quote names of images."""
        what = f"{self.shown(path)}: the file is corrupt or not what it should be."
        self.unread[str(error).replace(f"{self.root}/", "") if self.shows_all else what] = None

    def remark(self, *sentences: str) -> None:
        """Note remarks on the runs for readers of the tables."""
        self.remarks.update((sentence.replace(f"{self.root}/", ""), None) for sentence in sentences)


def gather(places: Path | str | Iterable[Path | str], images: bool | None = None) -> Material:
    """All runs in one or several folders, which may be output folders or single run folders.

    Raises:
        UserError: a folder does not exist, or no run in them is finished.
    """
    folders = [Path(place).absolute() for place in ([places] if isinstance(places, Path | str) else places)]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"There is no folder {folder} with results.")
    if not folders:
        raise UserError("A report needs at least one folder with results.")
    material = Material(Path(os.path.commonpath(folders)), images)
    broken: dict[Path, UserError] = {}
    for path in dict.fromkeys(path for folder in folders for path in folders_below(folder)):
        try:
            run = read_run(path)
            if run.kind != TRIAL:
                (material.diverged if run.diverged else material.runs).append(run)
        except UserError as error:
            broken[path] = error
    for path, reason in broken.items():  # now that it is known whether an error may be quoted
        material.unreadable(path, reason)
    material.waiting = sorted({pair for folder in folders for pair in unfinished(folder)})
    if not material.runs:
        raise UserError(f"No run below {', '.join(map(str, folders))} is finished{begun_below(folders)}.")
    return material
