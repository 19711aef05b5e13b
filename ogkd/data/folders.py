"""Class folders of a user's own images under the name of a catalogued data set."""

from __future__ import annotations

from pathlib import Path

from ogkd.data.catalogue import load
from ogkd.data.listing import images_below


def own_classes(name: str, root: Path) -> list[str]:
    """Return the class folders in root/name if `name` is a catalogued data set whose images are absent, so that these
    are the user's own; otherwise []. A split file alone may be one that a run on them has made."""
    facts, folder = load().find(name), Path(root, name)
    if facts is None or facts.image_folder(root).is_dir() or not folder.is_dir():
        return []
    return sorted({path.split("/")[0] for path in images_below(folder) if "/" in path} - {facts.name})
