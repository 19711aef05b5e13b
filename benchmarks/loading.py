#!/usr/bin/env python3
"""Seconds per epoch in which a training loader reads own images, and what comparing methods costs beyond their runs.

    python -m benchmarks.loading [--images 48] [--side 1000] [--epochs 5] [--compare]

The epochs of the loaders alternate in one process: PyTorch's own without processes, the same with two that start in
every epoch, and the one that runs use. Their crops must be equal. With --compare, `ogkd compare` runs five methods with
two seeds on these images, with PhantomCLIP, and its time stands beside the sum of its runs' own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader

from dassl.config import get_cfg_default
from dassl.data import Datum
from dassl.data.data_manager import DatasetWrapper, build_data_loader
from dassl.data.transforms import build_transform
from ogkd.core.images import read_image
from ogkd.core.torchtools import set_random_seed

CLASSES = "benign lesion", "malignant lesion", "healthy skin"
METHODS = "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "OGKD"
BATCH = 4


def write_images(folder: Path, number: int, side: int) -> list[str]:
    """JPEG files of smooth noise, in one folder per class."""
    rng, paths = np.random.default_rng(0), []
    for i in range(number):
        path = folder / CLASSES[i % len(CLASSES)] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        noise.resize((side, side), Image.Resampling.BICUBIC).save(path, quality=92)
        paths.append(str(path))
    return paths


class FromFiles(DatasetWrapper):
    """Reads its files whenever they are asked for."""

    def _read(self, path: str) -> Image.Image:
        return read_image(path, self.cfg.INPUT.FRAME)


def loaders(paths: list[str]) -> dict[str, DataLoader]:
    """Loaders of the same crops; PyTorch's read every file in every epoch."""
    cfg = get_cfg_default()
    cfg.VERBOSE, cfg.INPUT.TRANSFORMS = False, ("random_resized_crop", "random_flip", "normalize")
    cfg.DATALOADER.NUM_WORKERS = 2
    items, tfm = [Datum(path) for path in paths], build_transform(cfg, is_train=True)

    def usual(processes: int) -> DataLoader:
        forked: dict[str, Any] = {"num_workers": processes, "multiprocessing_context": "fork"} if processes else {}
        return DataLoader(FromFiles(cfg, items, tfm, is_train=True), BATCH, shuffle=True, drop_last=True, **forked)

    return {
        "files, no processes": usual(0),
        "files, two processes per epoch": usual(2),
        "as runs load them": build_data_loader(cfg, "RandomSampler", items, BATCH, tfm=tfm),
    }


def crops(loader: Iterable[dict], epoch: int) -> torch.Tensor:
    set_random_seed(epoch)
    loader.dataset.epoch_seed = epoch  # type: ignore[attr-defined]
    return torch.cat([batch["img"] for batch in loader])


def measure(paths: list[str], epochs: int) -> None:
    arms = loaders(paths)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for epoch in range(epochs):
        shown = []
        for name, loader in arms.items():
            begin = time.perf_counter()
            shown.append(crops(loader, epoch))
            seconds[name].append(time.perf_counter() - begin)
        if not all(torch.equal(shown[0], other) for other in shown):
            raise SystemExit("The loaders show different crops.")
    least = {name: min(values[1:]) for name, values in seconds.items()}
    rows = [
        [name, values[0], least[name], least[name] / least["files, no processes"]] for name, values in seconds.items()
    ]
    print(tabulate(rows, ["loader", "first epoch, s", "later epochs, s", "ratio"], floatfmt=".3g"))


def compare(data: Path, folder: Path) -> None:
    words = ["compare", str(data), "--backbone", "PhantomCLIP", "--protocol", "few_shot", "--methods", *METHODS]
    words += ["--seeds", "1", "2", "--", "TRAINER.OGKD.PROMPTS", "templates"]
    words += ["FEATURES.CACHE_DIR", str(folder / "cache")]
    output = folder / "output"
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "ogkd", *words],
        env={**os.environ, "OUTPUT": str(output)}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wall = time.perf_counter() - begin
    alone = sum(json.loads(path.read_text())["seconds"] for path in output.rglob("results.json"))
    print(f"\nogkd compare: {wall:.1f} s; its runs: {alone:.1f} s of computing; ratio {wall / alone:.2f}")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--images", type=int, default=48)
    p.add_argument("--side", type=int, default=1000, help="pixels")
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--compare", action="store_true")
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder, "data", "own images"), args.images, args.side)
        print(f"{args.images} JPEG files of {args.side} x {args.side} pixels, {os.cpu_count()} cores\n")
        measure(paths, args.epochs)
        if args.compare:
            compare(Path(folder, "data", "own images"), Path(folder))


if __name__ == "__main__":
    main()
