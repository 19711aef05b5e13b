"""The Phantom data set as files: python -m phantom.dataset [--root data] [--seed 0]

Writes ROOT/Phantom/Phantom/<class>/<nnn>.png and ROOT/Phantom/split_Phantom.json; the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from .findings import CLASSES
from .images import draw

NAME = "Phantom"
SEED = 0
COUNTS = {"train": 40, "val": 16, "test": 60}  # images a class


def write_dataset(folder: Path, seed: int = SEED, counts: dict[str, int] = COUNTS) -> None:
    """Write images and split into `folder`, which must not hold them yet; `counts` images a class and part."""
    split: dict[str, list] = {part: [] for part in counts}
    for label, name in enumerate(CLASSES):
        rng = np.random.default_rng([seed, label])
        directory = folder / NAME / name.replace(" ", "_")
        directory.mkdir(parents=True)
        number = 0
        for part, count in counts.items():
            for _ in range(count):
                path = directory / f"{number:03d}.png"
                Image.fromarray(draw(rng, name)).save(path)
                split[part].append([path.relative_to(folder / NAME).as_posix(), label, name])
                number += 1
    (folder / f"split_{NAME}.json").write_text(json.dumps(split, indent=1) + "\n")


def ensure_dataset(root: str | Path, seed: int = SEED) -> Path:
    """Make the data set below `root` unless it is there; its folder. It appears whole or not at all."""
    folder = Path(root) / NAME
    if not (folder / f"split_{NAME}.json").is_file():
        print(f"Making the {NAME} data set in {folder}")
        Path(root).mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{NAME}-", dir=root))
        try:
            write_dataset(made, seed)
            made.chmod(0o755)
            made.replace(folder)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    print(ensure_dataset(args.root, args.seed))


if __name__ == "__main__":
    main()
