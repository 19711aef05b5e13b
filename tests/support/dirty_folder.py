"""One folder of images with everything that real folders have and training does not want.

python -m tests.support.dirty_folder PLACE      # makes PLACE/scans and prints what scripts/check_data.py says of it
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ogkd.data.inspection import inspect
from tests.support.pictures import mask, numbered, picture, put

SOUND = numbered("benign", "malignant", "normal", count=8, form="p{}.png")


def dirty_folder(path: Path) -> Path:
    """Make `path`/scans and return it."""
    folder = path / "scans"
    put(folder, SOUND)
    split: dict[str, list] = {part: [] for part in ("train", "val", "test")}
    for number, name in enumerate(SOUND):  # on Windows, and with the masks
        part = ("train", "train", "val", "test")[number % 4]
        label = ("benign", "malignant", "normal").index(name.split("/")[0])
        split[part].append([name.replace("/", "\\"), label, name.split("/")[0] + " "])
    split["test"].append(["benign\\p0_mask.png", 0, "benign"])
    (folder / "split_scans.json").write_text(json.dumps(split), encoding="utf-8")

    # files beside the images, by name and by content
    put(folder, ["benign/p0_mask.png", "benign/p1_mask_1.png", "normal/masks/p0.png", "masks/benign/p0.png"], mask)
    put(folder, ["malignant/p0_overlay.png", "malignant/thumb_p1.jpg", "malignant/P2-Annotated.png"])
    put(folder, ["normal/x.png", "normal/y.png"], mask)
    # litter
    put(
        folder,
        ["benign/Thumbs.db", "benign/.DS_Store", "benign/._p0.png", "__MACOSX/benign/._p0.png", "benign/notes.txt"],
    )
    put(folder, ["loose.png", "malignant\\p9.png"])
    # what came after the split
    put(folder, [*numbered("cyst", count=3), "benign/p20.png"])
    # names and folders
    put(folder, [*numbered("Cyst_", count=3, form="c{}.png"), *numbered("nan", count=3, form="n{}.png")])
    put(folder, [*numbered("malignant/ductal", "malignant/lobular", count=2), "normal/benign/p77.png"])
    # links
    put(path, numbered("elsewhere", count=3, form="e{}.png"))
    (folder / "fibroadenoma").symlink_to(path / "elsewhere", target_is_directory=True)
    (folder / "benign" / "again").symlink_to(folder, target_is_directory=True)
    (folder / "benign" / "p21.png").symlink_to(path / "unmounted" / "p21.png")
    # the same image twice, a broken one
    picture("benign/p1.png").save(folder / "malignant" / "copy.png")
    (folder / "normal" / "broken.png").write_bytes(b"no image")
    return folder


if __name__ == "__main__":
    seen = inspect(dirty_folder(Path(sys.argv[1])))
    print(seen.table(), *seen.lines(), sep="\n")
