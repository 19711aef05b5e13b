"""Finds the checkpoints in a folder by their names; nothing is loaded."""

from __future__ import annotations

from pathlib import Path

from ogkd.core.errors import UserError

PREFIX = "model.pth.tar-"
BEST = "model-best.pth.tar"


def checkpoints_in(folder: str | Path) -> dict[int, Path]:
    """Return the numbered checkpoints in a folder as epoch -> file, newest first."""
    result = {}
    for path in Path(folder).glob(f"{PREFIX}*"):
        epoch = path.name.removeprefix(PREFIX)
        if epoch.isdecimal() and path.is_file():
            result[int(epoch)] = path
    return dict(sorted(result.items(), reverse=True))


def models_in(run: str | Path) -> list[Path]:
    """Return the subfolders of a run folder that hold checkpoints, one per trained model, sorted by name."""
    run = Path(run)
    folders = [path for path in sorted(run.iterdir()) if path.is_dir()] if run.is_dir() else []
    return [path for path in folders if checkpoints_in(path) or (path / BEST).is_file()]


def find_checkpoint(folder: str | Path, epoch: int | None = None) -> Path:
    """Return the checkpoint of `epoch` in a folder; without an epoch, the best on validation if the run kept one, else
    the newest.

    Raises:
        UserError: there is none.
    """
    folder = Path(folder)
    numbered = checkpoints_in(folder)
    if epoch is not None:
        if epoch in numbered:
            return numbered[epoch]
        there = f"there are those of epochs {', '.join(map(str, sorted(numbered)))}" if numbered else "it has none"
        raise UserError(f"There is no checkpoint of epoch {epoch} in {folder}: {there}.")
    if (folder / BEST).is_file():
        return folder / BEST
    if numbered:
        return next(iter(numbered.values()))
    raise UserError(f"There is no checkpoint in {folder}: train first, or give the run's folder as --model-dir.")
