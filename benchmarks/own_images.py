#!/usr/bin/env python3
"""How much FEATURES.CROPS and FEATURES.PRECISION speed up training on a user's own images.

    python -m benchmarks.own_images [--methods CoOp OGKD] [--epochs 50] [--weights FOLDER] [--threads 2] [--record]

Uses full-size weights (random, unless a folder is given), 4 classes of 16 images of 512 x 512, 50 epochs, and the batch
size of each method's configuration: 4 for OGKD, 32 for CoOp. The smaller the batch, the larger the share of the text
tower, which runs once per step and which crops do not save.

The settings take turns in one process, an epoch each, so that whatever else the machine does falls on all of them
alike. Seconds are those of the steps with the encoding of their images, on the clock and of the processor (all threads
together); where other programs want the processor too, its own seconds are the ones to compare, and the target is read
from them. `--epochs` below 50 measures that many and says what 50 take: the first epoch, in which crops are encoded,
and 49 times the median of the others.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks import machine
from benchmarks.step import make_weights
from dassl.engine import TrainerBase, build_trainer
from ogkd.core import set_random_seed
from ogkd.features.precision import has_bf16
from ogkd.runs.config import build_config, method_config
from ogkd.runs.spec import RunSpec

CLASSES = ("benign nevus", "melanoma", "keratosis", "lentigo")
SHOTS, EPOCHS, CROPS = 16, 50, 8
TARGETS = {"fp32": 4.0, "bf16": 8.0}


def write_images(folder: Path, shots: int) -> None:
    """Write a folder of JPEGs per class: `shots` for training and a few more for validation and test."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(2 * shots + 4):
            coarse = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            coarse.resize((512, 512), Image.Resampling.BICUBIC).save(folder / name / f"{number}.jpg", quality=90)


def trainer_of(method: str, root: Path, weights: Path, output: Path, *pairs: str) -> TrainerBase:
    """The method's trainer, ready for its first epoch."""
    spec = RunSpec(
        method=method,
        folder=str(output),
        dataset="moles",
        shots=SHOTS,
        seed=1,
        backbone=str(weights),
        data=str(root),
        method_file=method_config(method, "few_shot", ""),
        pairs=(
            *("FEATURES.CACHE_DIR", str(output / "cache"), "DATALOADER.NUM_WORKERS", "0", "TEST.NO_TEST", "True"),
            *(("TRAINER.OGKD.PROMPTS", "templates") if method == "OGKD" else ()),
            *("OPTIM.MAX_EPOCH", str(EPOCHS)),
            *pairs,
        ),
    )
    cfg = build_config(spec)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.before_train()
    return trainer


class Setting:
    """A training setting and the seconds of its epochs."""

    def __init__(self, trainer: TrainerBase) -> None:
        self.trainer = trainer
        self.seconds: list[float] = []
        self.processor_seconds: list[float] = []

    def epoch(self) -> None:
        self.trainer.epoch = len(self.seconds)
        self.trainer.before_epoch()
        start, busy = time.perf_counter(), time.process_time()
        self.trainer.run_epoch()
        self.seconds.append(time.perf_counter() - start)
        self.processor_seconds.append(time.process_time() - busy)


def whole_training(seconds: Sequence[float], epochs: int) -> float:
    """Seconds of a training of `epochs` epochs, of which `seconds` are the first."""
    if len(seconds) >= epochs:
        return sum(seconds)
    return seconds[0] + (epochs - 1) * statistics.median(seconds[1:])


def measure(method: str, weights: Path, data: Path, folder: Path, epochs: int) -> tuple[str, dict[str, float]]:
    """The table of all settings, and how many times faster than published each is, in processor seconds."""
    choices = {
        "as published": (),
        f"{CROPS} crops": ("FEATURES.CROPS", str(CROPS)),
    }
    if has_bf16(torch.device("cpu")):
        choices["bf16"] = ("FEATURES.PRECISION", "bf16")
        choices[f"bf16, {CROPS} crops"] = ("FEATURES.PRECISION", "bf16", "FEATURES.CROPS", str(CROPS))
    settings = {
        name: Setting(trainer_of(method, data, weights, folder / f"{number}", *pairs))
        for number, (name, pairs) in enumerate(choices.items())
    }
    for _ in range(epochs):
        for setting in settings.values():
            setting.epoch()
    clock = {name: whole_training(setting.seconds, EPOCHS) for name, setting in settings.items()}
    busy = {name: whole_training(setting.processor_seconds, EPOCHS) for name, setting in settings.items()}
    ratios = {name: busy["as published"] / seconds for name, seconds in busy.items()}
    rows = [
        [name, clock[name], clock["as published"] / clock[name], setting.processor_seconds[0],
         statistics.median(setting.processor_seconds[1:]), busy[name], ratios[name]]
        for name, setting in settings.items()
    ]  # fmt: skip
    headers = [f"{EPOCHS} epochs,\nclock s", "times\nfaster", "first epoch,\nprocessor s", "further ones,\nprocessor s",
               f"{EPOCHS} epochs,\nprocessor s", "times\nfaster"]  # fmt: skip
    return tabulate(rows, ["setting", *headers], floatfmt=".3g"), ratios


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=("CoOp", "OGKD"))
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="number of epochs to measure, at least 3")
    parser.add_argument(
        "--weights", type=Path, help="folder in BiomedCLIP's format (default: full-size random weights)"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--record", action="store_true", help="append the result to benchmarks/RESULTS.md")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    bf16 = has_bf16(torch.device("cpu"))
    floor = machine.Floor.measure(("fp32", "bf16") if bf16 else ("fp32",))
    fastest, target = (f"bf16, {CROPS} crops", TARGETS["bf16"]) if bf16 else (f"{CROPS} crops", TARGETS["fp32"])
    rates = ", ".join(f"{name} {rate:.0f} GFLOP/s" for name, rate in floor.products.items())
    missed = []
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        weights, data = args.weights or make_weights(Path(made) / "weights"), Path(made) / "data"
        write_images(data / "moles", SHOTS)
        for method in args.methods:
            table, ratios = measure(method, weights, data, Path(made) / method, max(3, args.epochs))
            print(f"\n{method}, {len(CLASSES)} classes of {SHOTS} images; {machine.name_of()}\n\n{table}")
            faster = ", ".join(f"{name} {ratio:.1f}x" for name, ratio in ratios.items() if name != "as published")
            if args.record:
                print(machine.record("own_images", f"{method}: {faster}; {rates}"))
            missed += [method] if ratios[fastest] < target else []
    print(f"\n{floor}\n")
    print(f"{fastest}, {target:g} times faster: " + (f"missed by {', '.join(missed)}" if missed else "met"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
