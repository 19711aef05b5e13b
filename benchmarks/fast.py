#!/usr/bin/env python3
"""What the settings `fast` save on a CPU, and how near a step of the text tower is to what its weights alone cost.

    python -m benchmarks.fast [--weights FOLDER] [--threads N] [--methods CoOp OGKD] [--epochs 2]

Full-size weights in BiomedCLIP's format (random, unless a folder is given), 4 classes of 16 images. Both parts are
measured in one process, the variants of a step in turn. The whole run of 100 epochs is extrapolated from its parts:
the crops are encoded once, and every later epoch costs the same.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from benchmarks.step import make_weights
from dassl.engine import build_trainer
from ogkd.core.torchtools import set_random_seed
from ogkd.features.precision import BF16, FP32, at_precision, has_bf16
from ogkd.models import FrozenCLIP
from ogkd.models.packed_bert import product
from ogkd.runs.config import build_config
from ogkd.runs.presets import FAST, PUBLISHED
from ogkd.runs.protocols import Places, job
from ogkd.tuning.backbone import load_backbone
from ogkd.tuning.prompt_learner import PromptLearner

CLASSES = ("glioma tumor", "meningioma tumor", "normal brain", "pituitary tumor")
SHOTS, TESTED, EPOCHS, SIDE = 16, 16, 100, 512
GOALS = {"CoOp": 180, "OGKD": 240}  # seconds of a run on two cores with AVX-512 BF16


clock = time.perf_counter


def write_images(folder: Path) -> None:
    """A folder of one's own images: noise, for training, validation and test."""
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(3 * (SHOTS + TESTED)):
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / name / f"{number}.jpg")


def steps(model: FrozenCLIP) -> dict[str, Callable[[], object]]:
    """A forward and backward pass of the text tower in several ways, and what its weights alone cost."""
    learner = PromptLearner(model, CLASSES)
    weights = torch.randn(len(CLASSES), model.embed_dim)

    def step(encoder: FrozenCLIP) -> Callable[[], object]:
        def run() -> None:
            learner.ctx.grad = None
            sentences, mask = learner()
            (encoder.encode_text(sentences, mask, dropout=0.1) * weights).sum().backward()

        return run

    variants = {"plain, fp32": step(model), "packed, fp32": step(at_precision(model, FP32, packed=True))}
    if has_bf16(torch.device("cpu")):
        fastest = at_precision(model, BF16, packed=True)
        tokens = int(learner.mask.sum())
        layers = fastest.text_tower.layers
        linear = [one for layer in layers for one in (layer.projections, layer.out, layer.up, layer.down)]
        matrices = [matrix for one in linear for matrix in (one.weight, one.transposed)]
        pairs = [(torch.randn(tokens, matrix.shape[1]).bfloat16(), matrix) for matrix in matrices]
        stored = torch.zeros(sum(one.weight.numel() for one in linear) // 2, dtype=torch.int32)
        variants |= {
            "plain, bf16": step(at_precision(model, BF16)),
            "packed, bf16": step(fastest),
            f"its products alone, of {tokens} tokens": lambda: [product(*pair, None) for pair in pairs],
            "its weights read once forward, once backward": lambda: (stored.max(), stored.max()),
        }
    return variants


def in_turn(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each variant in each round, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            start = clock()
            run()
            if number:
                seconds[name].append(clock() - start)
    return seconds


def run(method: str, settings: str, data: Path, weights: Path, output: Path, epochs: int) -> dict[str, float]:
    """Seconds of the parts of a run: until the first epoch, crops, one epoch, and the test."""
    places = Places(data, output / settings, str(weights), settings)
    pairs = ("FEATURES.CACHE_DIR", "", "DATALOADER.NUM_WORKERS", "0", "TRAINER.OGKD.PROMPTS", "templates")
    spec = job("few_shot", method, "own", SHOTS, 1, places, pairs if method == "OGKD" else pairs[:4]).specs[0]
    load_backbone.cache_clear()
    start = clock()
    cfg = build_config(spec)
    set_random_seed(cfg.SEED)
    trainer = build_trainer(cfg)
    trainer.start_epoch, trainer.max_epoch, trainer.epoch = 0, EPOCHS, 0
    trainer.before_train()
    parts = {"start": clock() - start}
    seconds = []
    for trainer.epoch in range(epochs):
        trainer.before_epoch()
        start = clock()
        trainer.run_epoch()
        seconds.append(clock() - start)
    parts["epoch"] = min(seconds)
    parts["crops"] = seconds[0] - parts["epoch"]
    start = clock()
    trainer.test()
    parts["test"] = clock() - start
    return parts | {"run": parts["start"] + parts["crops"] + EPOCHS * parts["epoch"] + parts["test"]}


def table_of_steps(weights: Path, rounds: int) -> str:
    seconds = in_turn(steps(load_backbone(str(weights), "cpu")), rounds)
    first = seconds["plain, fp32"]
    rows = [
        [name, 1000 * min(of), 1000 * statistics.median(of), statistics.median(map(lambda a, b: a / b, first, of))]
        for name, of in seconds.items()
    ]
    return tabulate(rows, ["a step of the text tower", "least ms", "median ms", "times faster"], floatfmt=".3g")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder in BiomedCLIP's format (default: random weights)")
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's default")
    parser.add_argument(
        "--processor",
        action="store_true",
        help="the processor's own seconds, for a busy machine; with --threads 1",
    )
    parser.add_argument("--methods", nargs="*", default=list(GOALS))
    parser.add_argument("--settings", nargs="*", default=[PUBLISHED, FAST])
    parser.add_argument("--epochs", type=int, default=2, help="measured epochs")
    parser.add_argument("--rounds", type=int, default=10, help="measured steps of each kind")
    args = parser.parse_args()
    global clock
    clock = time.process_time if args.processor else time.perf_counter
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        weights = (args.weights or make_weights(Path(made) / "weights")).absolute()
        print(f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, ", end="")
        print("bf16" if has_bf16(torch.device("cpu")) else "no bf16")
        print(f"\n{table_of_steps(weights, args.rounds)}\n", flush=True)
        write_images(Path(made) / "data/own")
        rows = []
        for method in args.methods:
            for settings in args.settings:
                parts = run(method, settings, Path(made) / "data", weights, Path(made) / "output", args.epochs)
                rows.append([method, settings, *(parts[name] for name in ("start", "crops", "epoch", "test", "run"))])
                print(rows[-1], flush=True)
        headers = ["", "settings", "start", "crops", "an epoch", "test", f"{EPOCHS} epochs"]
        print("\n" + tabulate(rows, headers, floatfmt=".3g") + "\nSeconds; the last column is extrapolated.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
