#!/usr/bin/env python3
"""How long OGKD's whole base-to-novel table takes on this machine: ten data sets, three seeds, full-size weights.

    python -m benchmarks.grid [--splits FOLDER] [--sets btmri ...] [--seeds 1 2 3] [--fraction 0.1] [--dry-run]

Images are made up, under the names of the published split files where `--splits` has them (split_<name>.json), else in
the numbers of the catalogue. Weights are random unless a folder is given. `--dry-run` prints what there is to do. Of
each set one seed is measured, `--fraction` of its epochs (at least 2) and of its test images (at least 64), and the
rest is taken to go at the same rate: what a further seed of the set shares, the features of test images, is counted
once, and a model is loaded once. `--fraction 1` measures a seed of each set in full.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks import machine
from benchmarks.step import make_weights
from dassl.engine import TrainerBase, build_trainer
from ogkd.core import read_json, set_random_seed, write_json
from ogkd.data.catalogue import Facts, load
from ogkd.evaluation.protocol import BASE2NEW_SHOTS as SHOTS
from ogkd.runs.config import build_config, resolve
from ogkd.runs.protocols import Places, job
from ogkd.runs.spec import RunSpec
from ogkd.tuning.backbone import load_backbone

METHOD, GOAL_MINUTES, LEAST_IMAGES, LEAST_EPOCHS = "OGKD", 15.0, 64, 2
DIFFERENT_IMAGES, SIDE = 16, 256
LOAD, TEACHER, CROPS, STEPS, TEST = "load the model", "teacher", "training crops", "steps", "test images"
PARTS = (LOAD, TEACHER, CROPS, STEPS, TEST)


@dataclass
class Work:
    """What the table needs of one data set, for each seed, and the seconds of one unit of each part.

    Test images are those of the base and novel classes, and the base classes' validation images; a seed shares them.
    """

    facts: Facts
    base: int
    epochs: int
    crops: int
    steps: int
    test_images: int
    unit: dict[str, float] = field(default_factory=dict)

    def amounts(self, seeds: int) -> dict[str, int]:
        return {TEACHER: seeds, CROPS: seeds * self.crops, STEPS: seeds * self.steps, TEST: self.test_images}


def work_of(facts: Facts, spec: RunSpec) -> Work:
    cfg = resolve(spec).cfg
    base = math.ceil(len(facts.classes) / 2)
    epochs, batch = cfg.OPTIM.MAX_EPOCH, cfg.DATALOADER.TRAIN_X.BATCH_SIZE
    images = base * SHOTS
    test = facts.counts[2] + base * min(SHOTS, 4)
    return Work(facts, base, epochs, epochs * images, epochs * (images // batch), test)


# The images


def entries(facts: Facts, splits: Path | None) -> dict[str, list[list]]:
    """{"train" | "val" | "test": [[path, label, class name], ...]}, of the split file or in the catalogue's numbers."""
    if splits is not None and (file := splits / f"split_{facts.name}.json").is_file():
        return read_json(file)
    split: dict[str, list[list]] = {"train": [], "val": [], "test": []}
    evenly = [math.ceil(count / len(facts.classes)) for count in facts.counts]
    for label, (name, published) in enumerate(facts.classes.items()):
        counts: Sequence[int] = published or evenly  # a set whose numbers per class are not published
        for part, count in zip(split, counts, strict=True):
            split[part] += [[f"{name.replace(' ', '_')}/{part}_{i}.jpg", label, name] for i in range(count)]
    return split


def cut(split: dict[str, list[list]], fraction: float) -> dict[str, list[list]]:
    """As many images as a measurement needs: of each class a few more than the shots, of the test set the fraction."""
    classes = {label for _, label, _ in split["train"]}
    most = {
        "train": SHOTS,
        "val": 4,
        "test": max(math.ceil(fraction * len(split["test"])), LEAST_IMAGES) // len(classes) + 1,
    }
    left: dict[str, list[list]] = {}
    for part, items in split.items():
        of_class = {label: [item for item in items if item[1] == label][: most[part]] for label in sorted(classes)}
        left[part] = [item for some in of_class.values() for item in some]
    return left


def write_images(root: Path, facts: Facts, split: dict[str, list[list]]) -> None:
    """A JPEG at each path. There are few pictures, and bytes behind a picture's end make each file another."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(DIFFERENT_IMAGES):
        stream = io.BytesIO()
        coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        pictures.append(stream.getvalue())
    paths = [path for items in split.values() for path, *_ in items]
    for number, path in enumerate(paths):
        target = facts.image_folder(root) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pictures[number % DIFFERENT_IMAGES] + number.to_bytes(8, "big"))
    write_json(split, facts.split_file(root))


# The measurement


def measure(work: Work, spec: RunSpec, fraction: float) -> None:
    """Put the seconds of one unit of each part into `work.unit`."""
    cfg = build_config(spec)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.before_train()
    epochs = min(work.epochs, max(LEAST_EPOCHS, math.ceil(fraction * work.epochs)))
    crops, steps = seconds_of_epochs(trainer, epochs)
    images = sum(len(loader.dataset.data_source) for loader in (trainer.test_loader, trainer.val_loader))
    for split in ("test", "val"):
        trainer.task.features_of(split)
    took = {name: entry["seconds"] for name, entry in trainer.phases.record.items()}
    work.unit = {
        LOAD: took["load model"],
        TEACHER: took["encode teacher prompts"],
        CROPS: crops / (epochs * work.crops / work.epochs),
        STEPS: steps / (epochs * work.steps / work.epochs),
        TEST: (took["encode test images"] + took["encode val images"]) / images,
    }


def seconds_of_epochs(trainer: TrainerBase, epochs: int) -> tuple[float, float]:
    """Seconds of the first epochs apart from their steps, which is where crops are drawn and encoded, and of the
    steps."""
    steps, forward_backward = [], trainer.forward_backward

    def timed(*batches: dict) -> dict:
        start = time.perf_counter()
        summary = forward_backward(*batches)
        steps.append(time.perf_counter() - start)
        return summary

    trainer.forward_backward = timed  # type: ignore[method-assign, assignment]  # of this one object
    start = time.perf_counter()
    for trainer.epoch in range(epochs):
        trainer.before_epoch()
        trainer.run_epoch()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start - sum(steps), sum(steps)


# What is told


def plan_table(works: Sequence[Work], seeds: int) -> str:
    rows: list[list[Any]] = [
        [work.facts.name, len(work.facts.classes), work.base, work.epochs, *list(work.amounts(seeds).values())[1:]]
        for work in works
    ]
    rows.append(["all", *[sum(row[column] for row in rows) for column in (1, 2)], "", *_sums(rows)])
    headers = ["data set", "classes", "base", "epochs", f"crops, {seeds} seeds", f"steps, {seeds} seeds", TEST]
    return tabulate(rows, headers)


def _sums(rows: Sequence[Sequence]) -> list[int]:
    return [sum(row[column] for row in rows) for column in (4, 5, 6)]


def result_table(works: Sequence[Work], seeds: int) -> tuple[str, float]:
    """Seconds of each part over the whole table, and their sum."""
    total = dict.fromkeys(PARTS, 0.0)
    units = dict.fromkeys(PARTS, 0)
    total[LOAD], units[LOAD] = max(work.unit[LOAD] for work in works), 1
    for work in works:
        for part, amount in work.amounts(seeds).items():
            total[part] += amount * work.unit[part]
            units[part] += amount
    everything = sum(total.values())
    rows = [[part, units[part], total[part] / units[part], total[part], total[part] / everything] for part in PARTS]
    rows.append(["in all", None, None, everything, 1.0])
    headers = ["part", "how many", "seconds each", "seconds", "of it"]
    return tabulate(rows, headers, floatfmt=("", "", ".4f", ".0f", ".0%"), missingval=""), everything


def main(argv: Sequence[str] | None = None) -> int:
    known = {facts.config: facts for facts in load().datasets.values() if facts.zip_name and facts.base2new}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=known, default=tuple(known))
    parser.add_argument("--seeds", nargs="+", type=int, default=(1, 2, 3))
    parser.add_argument("--fraction", type=float, default=0.1, help="of epochs and test images to measure")
    parser.add_argument("--splits", type=Path, help="folder with the published split files")
    parser.add_argument("--weights", type=Path, help="folder in BiomedCLIP's format (default: made, full size, random)")
    parser.add_argument("--dry-run", action="store_true", help="print what there is to do")
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    args = parser.parse_args(argv)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        folder = Path(made)
        weights = args.weights or folder / "weights"
        places = Places(data=folder / "data", output=folder / "output", backbone=str(weights))
        own = ("FEATURES.CACHE_DIR", "", "DATALOADER.NUM_WORKERS", "0")
        specs = {name: job("base2new", METHOD, name, SHOTS, args.seeds[0], places, own).specs[0] for name in args.sets}
        works = {name: work_of(known[name], spec) for name, spec in specs.items()}
        print(plan_table(list(works.values()), len(args.seeds)))
        if args.dry_run:
            return 0
        if args.weights is None:
            make_weights(weights)
        for name, work in works.items():
            write_images(places.data, work.facts, cut(entries(work.facts, args.splits), args.fraction))
            load_backbone.cache_clear()
            measure(work, specs[name], args.fraction)
            print(f"{work.facts.name}: " + ", ".join(f"{part} {work.unit[part]:.4f} s" for part in PARTS), flush=True)
    table, seconds = result_table(list(works.values()), len(args.seeds))
    what = f"{len(works)} data sets, {len(args.seeds)} seeds, {METHOD}"
    busy = machine.load()
    print(f"\n{what}; {machine.name_of(device)}" + (f", load {busy:.1f}" if busy is not None else "") + f"\n\n{table}")
    print(f"\n{seconds / 60:.0f} minutes, one run after another; the goal is {GOAL_MINUTES:.0f} on one H100")
    if args.record:
        print(machine.record("grid", f"{what}: {seconds / 60:.0f} min", device=device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
