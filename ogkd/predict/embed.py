"""Image features of a frozen backbone as arrays, for a classifier of your own: `ogkd embed`, `ogkd.embed`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ogkd.core import UserError, atomic_path, progress
from ogkd.core.escape import no_formula
from ogkd.core.places import command
from ogkd.predict.command import in_batches, named_images
from ogkd.predict.operating import add_model_arguments

if TYPE_CHECKING:
    from ogkd.predict.encoder import Encoder, OneImage

NUMPY, TABLE = SUFFIXES = (".npz", ".csv")


def embed(images: Sequence[OneImage] | OneImage, source: str | Path = "BiomedCLIP", batch: int = 0) -> np.ndarray:
    """The normalised features (N, D) float32 of images or image files, in their order.

    They are what training sees of an image that is not augmented: decoded, resized, normalised and encoded likewise.

    source: a backbone's name, its folder or "hf-hub:org/name"; or a run's or exported folder, whose backbone, image
        preparation and precision are used. What a method learned has no effect.
    batch: images per pass; 0: 8 on a CPU, 64 on a GPU.

    Raises UserError if the backbone is missing or an image cannot be read.
    """
    from ogkd.predict.classifier import image_list

    return encoder_of(source).features(image_list(images), batch)


def encoder_of(source: str | Path, backbone: str = "") -> Encoder:
    """The encoder of a run's or exported folder, with its settings, or of a backbone, with those of a new run."""
    from ogkd.predict.encoder import Encoder
    from ogkd.predict.export import TENSORS, load_prompt
    from ogkd.runs.config import build_config
    from ogkd.runs.records import CONFIG
    from ogkd.runs.spec import RunSpec

    if (Path(source) / CONFIG).is_file() or (Path(source) / TENSORS).is_file():
        prompt = load_prompt(source)
        return Encoder(prompt.configuration(backbone), prompt)
    pairs = ("DATASET.NAME", "ImageFolder", "FEATURES.CACHE_DIR", "", "VERBOSE", "False")
    return Encoder(build_config(RunSpec("ZeroShot", folder="", backbone=backbone or str(source), pairs=pairs)))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog=command("embed"),
        description="Write the frozen model's features of images, for a classifier of your own. An image that cannot "
        "be read is left out, and named.",
    )
    p.add_argument(
        "source", metavar="RUN_OR_BACKBONE", help="a backbone's name or folder; or a run's or exported folder, whose "
        "backbone and image preparation are used",
    )  # fmt: skip
    p.add_argument("images", metavar="IMAGE_OR_FOLDER", nargs="+", help="as for predict")
    p.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="features.npz, with the arrays features "
        "(N, D), normalised, and paths (N,); or a table, features.csv",
    )  # fmt: skip
    add_model_arguments(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns 0, even if some images could not be read.

    Raises UserError for what the user can fix; nothing is written then.
    """
    args = parser().parse_args(argv)
    target: Path = args.output
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"{target} is neither a .npz nor a .csv file: give -o features.npz.")
    if not target.parent.is_dir():
        raise UserError(f"The folder of {target} does not exist: create it first.")
    images = list(named_images(args.images, sys.stdin))
    encoder = encoder_of(args.source, args.backbone)
    size = args.batch or encoder.images_at_once
    names: list[str] = []
    parts: list[np.ndarray] = []
    batches = progress(in_batches(images, encoder.frame, size), "encode", total=-(-len(images) // size), unit="batch")
    for reads in batches:
        sound = [(read.image.name, read.picture) for read in reads if read.picture is not None]
        names += [name for name, _ in sound]
        parts.append(encoder.features([picture for _, picture in sound], size))
        for read in reads:
            if read.problem:
                print(f"{read.image.name}: not read. {read.problem}", file=sys.stderr)
    if not names:
        raise UserError("No image could be read: check the paths.")
    features = np.concatenate(parts)
    write(target, features, names)
    left_out = len(images) - len(names)
    print(f"{target}: {len(names)} images, {features.shape[1]} features each by {encoder.model.name}.")
    if left_out:
        print(f"warning: {left_out} of {len(images)} images could not be read and are left out.", file=sys.stderr)
    return 0


def write(target: Path, features: np.ndarray, names: Sequence[str]) -> None:
    """Write features (N, D) and the images' names atomically, as arrays or, for .csv, as a table."""
    import pandas as pd

    with atomic_path(target) as temporary:
        if target.suffix.lower() == NUMPY:
            with temporary.open("wb") as file:
                np.savez(file, features=features, paths=np.array(names))
        else:
            table = pd.DataFrame(features, columns=[f"feature_{number}" for number in range(features.shape[1])])
            table.insert(0, "path", [no_formula(name) for name in names])
            table.to_csv(temporary, index=False, errors="surrogateescape")
