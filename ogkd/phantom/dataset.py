"""Writes the Phantom data sets: python -m ogkd.phantom.dataset [NAME ...] [--root data] [--seed 0]

NAME is phantom (twelve findings), phantom_shift (the same from another scanner of the same modality) or phantom_grades
(five ordered grades of one finding). Writes ROOT/Phantom/Phantom/<class>/<nnn>.png and ROOT/Phantom/split_Phantom.json,
and likewise for the others; the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ogkd.core import UserError, atomic_path, did_you_mean, expanded, run_program, sweep
from ogkd.core.locks import locked
from ogkd.phantom import png
from ogkd.phantom.findings import CLASSES, GRADES, Array
from ogkd.phantom.images import USUAL, Scanner, draw_with_mask

SEED = 0
COUNTS = {"train": 40, "val": 16, "test": 60}  # images per class
MODALITY = "sonogram"


class DataSet(NamedTuple):
    folder: str
    classes: list[str]
    scanner: Scanner
    stream: tuple[int, ...] = ()  # separates its random numbers from those of the other data sets


OTHER_SCANNER = Scanner(contrast=(0.75, 1.15), blur=(0.4, 0.8), noise=(0.03, 0.055), gain=(1.1, 1.35), gamma=(0.7, 0.9))
DATASETS = {
    "phantom": DataSet("Phantom", CLASSES, USUAL),
    "phantom_shift": DataSet("PhantomShift", CLASSES, OTHER_SCANNER, (1,)),
    "phantom_grades": DataSet("PhantomGrades", GRADES, USUAL, (2,)),
}


def draw_class(name: str, label: int, seed: int, count: int) -> list[tuple[Array, Array]]:
    """Draw the first `count` images of a class of the data set `name`, with the masks of the findings, both (96,
    96)."""
    made = DATASETS[name]
    rng = np.random.default_rng([seed, label, *made.stream])
    return [draw_with_mask(rng, made.classes[label], MODALITY, made.scanner) for _ in range(count)]


def write_dataset(folder: Path, seed: int = SEED, counts: dict[str, int] = COUNTS, name: str = "phantom") -> None:
    """Write images and split to `folder`, which must not contain them yet; `counts` images per class in each part."""
    made = DATASETS[name]
    split: dict[str, list] = {part: [] for part in counts}
    parts = [part for part, count in counts.items() for _ in range(count)]
    for label, classname in enumerate(made.classes):
        directory = folder / made.folder / classname.replace(" ", "_")
        directory.mkdir(parents=True)
        for number, (image, _) in enumerate(draw_class(name, label, seed, len(parts))):
            path = directory / f"{number:03d}.png"
            path.write_bytes(png.encode(image))
            split[parts[number]].append([path.relative_to(folder / made.folder).as_posix(), label, classname])
    (folder / f"split_{made.folder}.json").write_text(json.dumps({"seed": seed, **split}, indent=1) + "\n")


def ensure_dataset(
    root: str | Path, seed: int | None = None, name: str = "phantom", counts: dict[str, int] = COUNTS
) -> Path:
    """Make the data set `name` below `root` unless it exists, and return its folder. It is created atomically, with
    `counts` images per class in each part.

    Without a seed, any existing draw is accepted, and the shipped one is made if there is none.
    Raises UserError for an unknown name, and if images of another seed exist.
    """
    if name not in DATASETS:
        near = did_you_mean(name, [*DATASETS])
        raise UserError(f"There is no embedded data set '{name}'{near}: it can be {', '.join(DATASETS)}.")
    title = DATASETS[name].folder
    folder = Path(root) / title
    split = folder / f"split_{title}.json"
    if not split.is_file():
        Path(root).mkdir(parents=True, exist_ok=True)
        with locked(Path(root) / f".{title}.lock", f"the drawing of {title} in {root}"):
            if not split.is_file():  # another process may have drawn it in the meantime
                _draw(folder, SEED if seed is None else seed, counts, name)
                return folder
    there = _seed_of(split)
    if seed not in (None, there):
        raise UserError(f"{folder} has the images of seed {there}, not {seed}: delete it or give another --root.")
    return folder


def _draw(folder: Path, seed: int, counts: dict[str, int], name: str) -> None:
    """Draw to a temporary folder, which is renamed to `folder` when it is complete."""
    if folder.is_dir() and any(folder.iterdir()):
        raise UserError(f"{folder} has no split_{folder.name}.json: delete that folder, and it is drawn again.")
    print(f"Making the {folder.name} data set in {folder}")
    sweep(folder.parent)
    with atomic_path(folder) as made:
        made.mkdir()
        write_dataset(made, seed, counts, name)


def _seed_of(split: Path) -> int:
    try:
        return json.loads(split.read_bytes())["seed"]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"{split} was made by an older version or changed: delete {split.parent}, and it is drawn again."
        ) from None


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(DATASETS)} (default: phantom)")
    parser.add_argument("--root", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, help="seed of the images, 0 or more (default: 0, the shipped draw)")
    args = parser.parse_args(argv)
    if args.seed is not None and args.seed < 0:
        raise UserError(f"--seed is {args.seed}: give 0 or more.")
    root = expanded(args.root)
    for name in args.names or ["phantom"]:
        meant = next((one for one in DATASETS if one.replace("_", "") == name.replace("_", "").lower()), name)
        print(ensure_dataset(root, args.seed, meant))


if __name__ == "__main__":
    sys.exit(run_program(main))
