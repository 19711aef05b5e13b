#!/usr/bin/env python3
"""Seconds per step, seconds of setup and peak memory of an OGKD run against a plain reference, in one process.

    python -m benchmarks.step [--weights FOLDER] [--classes 2 8] [--threads N]
    python -m benchmarks.step --methods CoOp CLIPLoRA CLIPSVD      # these methods' steps of as many images

Both use the same full-size weights in BiomedCLIP's format (random, unless a folder is given), the same crops, the same
order and the same formulas, for 8 steps with batch size 4; their losses and contexts must agree to 1e-5. The run is
measured first, so that the reference does not affect its peak memory.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.reference import PlainOGKD
from dassl.engine import build_trainer
from ogkd.core import write_json
from ogkd.core.phases import peak_memory_bytes
from ogkd.core.torchtools import set_random_seed
from ogkd.data.catalogue import load
from ogkd.prompts.bank import template_prompts
from ogkd.runs.config import build_config, method_config
from ogkd.runs.spec import RunSpec
from ogkd.tuning.backbone import load_backbone

STEPS, BATCH = 8, 4
# data set, subsample and shots that give 8 steps with batch size 4 per epoch
CASES = {2: ("btmri", "base", 16), 8: ("chmnist", "all", 4)}
TARGETS = {2: 2.3, 8: 4.5}
SETUP_TARGET, MEMORY_TARGET, CHECKPOINT_TARGET, TOLERANCE = 6.0, 2.2e9, 100_000, 1e-5


def write_images(root: Path, name: str, classnames: list[str], shots: int) -> None:
    """A data set of noise under the benchmark's names, per class `shots` images for train, one for val and test."""
    rng = np.random.default_rng(0)
    split: dict[str, list[list[object]]] = {"train": [], "val": [], "test": []}
    folder = root / name / name
    folder.mkdir(parents=True)
    for label, classname in enumerate(classnames):
        for part, count in (("train", shots), ("val", 1), ("test", 1)):
            for i in range(count):
                path = f"{label}_{part}_{i}.png"
                Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(folder / path)
                split[part].append([path, label, classname])
    write_json(split, str(root / name / f"split_{name}.json"))


def configuration(
    root: Path, weights: Path, dataset: str, subsample: str, shots: int, output: Path, method: str = "OGKD"
):
    protocol = "base2new" if subsample == "base" else "few_shot"
    own = ("TRAINER.OGKD.PROMPTS", "templates", "TRAINER.OGKD.TEXT_DROPOUT", "0.0") if method == "OGKD" else ()
    spec = RunSpec(
        method=method,
        folder=str(output),
        dataset=dataset,
        shots=shots,
        subsample=subsample,
        seed=1,
        backbone=str(weights),
        data=str(root),
        method_file=method_config(method, protocol, dataset),
        pairs=(
            *("FEATURES.CACHE_DIR", "", "OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0"),
            *("TEST.NO_TEST", "True", "DATALOADER.TRAIN_X.BATCH_SIZE", str(BATCH), *own),
        ),
    )
    return build_config(spec)


class Steps:
    """Records the losses of a trainer's steps."""

    def __init__(self, trainer) -> None:
        self.losses: list[float] = []
        original = trainer.forward_backward

        def forward_backward(batch: dict) -> dict:
            summary = original(batch)
            self.losses.append(summary["loss"])
            return summary

        trainer.forward_backward = forward_backward


def run_path(cfg) -> dict:
    """The run as in train.py: setup, one epoch of 8 steps, checkpoint."""
    set_random_seed(cfg.SEED)
    load_backbone.cache_clear()
    start = time.perf_counter()
    trainer = build_trainer(cfg)
    trainer.before_train()
    setup = time.perf_counter() - start
    steps = Steps(trainer)
    trainer.before_epoch()
    start = time.perf_counter()
    trainer.run_epoch()
    seconds = (time.perf_counter() - start) / STEPS
    trainer.save_model(0, cfg.OUTPUT_DIR)
    size = max(path.stat().st_size for path in Path(cfg.OUTPUT_DIR).glob("*/model.pth.tar*"))
    return {
        "setup": setup,
        "step": seconds,
        "losses": steps.losses,
        "learned": next(trainer.method.parameters()).detach().clone(),
        "peak": peak_memory_bytes(),
        "checkpoint": size,
        "trainer": trainer,
    }


def reference_path(cfg, trainer, weights: Path, sentences: list[list[str]]) -> dict:
    """The reference on the same crops."""
    start = time.perf_counter()
    plain = PlainOGKD(weights, trainer.classnames, sentences, cfg)
    setup = time.perf_counter() - start
    trainer.before_epoch()  # the same seeds, so the same crops in the same order
    losses = []
    start = time.perf_counter()
    for batch in trainer.train_loader_x.loader:
        losses.append(plain.step(batch["img"], batch["label"], cfg.OPTIM.WARMUP_CONS_LR))
    seconds = (time.perf_counter() - start) / STEPS
    return {
        "setup": setup, "step": seconds, "losses": losses, "ctx": plain.ctx.detach(), "peak": peak_memory_bytes(),
    }  # fmt: skip


def largest_difference(mine: list[float] | torch.Tensor, theirs: list[float] | torch.Tensor) -> float:
    """max |mine - theirs| / |theirs|, elementwise for losses, relative to the norm for vectors."""
    mine, theirs = torch.as_tensor(mine, dtype=torch.float64), torch.as_tensor(theirs, dtype=torch.float64)
    if mine.ndim == 1:
        return float(((mine - theirs) / theirs).abs().max())
    return float((mine - theirs).norm() / theirs.norm())


def measure(classes: int, weights: Path, folder: Path) -> bool:
    """Measure one case and print its table. Returns whether all targets were met."""
    dataset, subsample, shots = CASES[classes]
    facts = next(facts for facts in load().datasets.values() if facts.config == dataset)
    names = list(facts.classes)
    root = folder / f"data_{classes}"
    write_images(root, facts.name, names, shots)
    cfg = configuration(root, weights, dataset, subsample, shots, folder / f"run_{classes}")
    mine = run_path(cfg)
    trainer = mine.pop("trainer")
    sentences = template_prompts(trainer.classnames)
    plain = reference_path(cfg, trainer, weights, sentences)

    losses = largest_difference(mine["losses"], plain["losses"])
    ctx = largest_difference(mine["learned"], plain["ctx"])
    rows = [
        ["seconds per step", mine["step"], plain["step"], plain["step"] / mine["step"], f">= {TARGETS[classes]}"],
        ["seconds of setup", mine["setup"], plain["setup"], plain["setup"] / mine["setup"], f">= {SETUP_TARGET}"],
        ["peak memory, GB", mine["peak"] / 1e9, plain["peak"] / 1e9, None, f"<= {MEMORY_TARGET / 1e9} GB"],
        ["checkpoint, KB", mine["checkpoint"] / 1e3, None, None, f"<= {CHECKPOINT_TARGET / 1e3:.0f} KB"],
        ["losses of 8 steps, largest relative difference", None, None, losses, f"<= {TOLERANCE}"],
        ["context after 8 steps, relative difference", None, None, ctx, f"<= {TOLERANCE}"],
    ]
    print(f"\n{facts.name}, {classes} classes, {STEPS} steps of batch {BATCH}, {torch.get_num_threads()} threads")
    headers = ["", "run", "reference", "ratio or difference", "target"]
    print(tabulate(rows, headers, floatfmt=".3g", missingval=""))
    return (
        plain["step"] / mine["step"] >= TARGETS[classes]
        and plain["setup"] / mine["setup"] >= SETUP_TARGET
        and mine["peak"] <= MEMORY_TARGET
        and mine["checkpoint"] <= CHECKPOINT_TARGET
        and max(losses, ctx) <= TOLERANCE
    )


def compare(methods: list[str], weights: Path, folder: Path) -> None:
    """Print what a step of each method costs, as a multiple of the first one's."""
    dataset, subsample, shots = CASES[2]
    facts = next(facts for facts in load().datasets.values() if facts.config == dataset)
    write_images(folder / "data", facts.name, list(facts.classes), shots)
    rows: list[list] = []
    for method in methods:
        one = run_path(configuration(folder / "data", weights, dataset, subsample, shots, folder / method, method))
        count = sum(value.numel() for value in one["trainer"].method.parameters())
        times = one["step"] / (rows[0][1] if rows else one["step"])
        rows.append([method, one["step"], times, one["setup"], count, one["checkpoint"] / 1e3])
    print(f"\n{facts.name}, 2 classes, {STEPS} steps of batch {BATCH}, {torch.get_num_threads()} threads")
    headers = ["method", "seconds per step", f"times {methods[0]}'s", "seconds of setup", "weights", "checkpoint, KB"]
    print(tabulate(rows, headers, floatfmt=".3g", intfmt=","))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--weights", type=Path, help="folder in BiomedCLIP's format (default: full-size random weights)"
    )
    parser.add_argument("--classes", type=int, nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--methods", nargs="+", help="compare the steps of these methods instead")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's default")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.methods:
        with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
            compare(args.methods, args.weights or make_weights(Path(made) / "weights"), Path(made))
        return 0
    if len(args.classes) > 1:  # one process per case, so that peak memory is measured separately
        with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
            weights = args.weights or make_weights(Path(made) / "weights")
            command = [sys.executable, "-m", "benchmarks.step", "--weights", str(weights)]
            command += ["--threads", str(args.threads)]
            return max(subprocess.run([*command, "--classes", str(n)]).returncode for n in args.classes)
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        weights = args.weights or make_weights(Path(made) / "weights")
        met = measure(args.classes[0], weights, Path(made))
    print("\nEvery target is met." if met else "\nA target is missed: see the table.")
    return 0 if met else 1


def make_weights(folder: Path) -> Path:
    """Full-size random weights, made in a separate process so that its memory does not count."""
    print(f"Making full-size random weights in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "tests.support.random_weights", str(folder), "--size", "full"], check=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
