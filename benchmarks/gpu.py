#!/usr/bin/env python3
"""Seconds per step and per run on a GPU, runs side by side, and what the papers' tables would take there.

    python -m benchmarks.gpu [--out FOLDER] [--weights FOLDER]      on a machine with a GPU, in under ten minutes
    python -m benchmarks.gpu --device cpu --tiny                    the same code without one, to see that it works

1. Steps of OGKD for 2, 4 and 8 classes in fp32, TF32 and bf16, with and without CUDA graphs, and of the plain reference
   of benchmarks/reference.py on the same images; their losses must agree.
2. A run of each method: setup and epochs of 16 images in each of 4 classes, with its own batch size.
3. Runs of OGKD side by side, twice as many each time, until a tenth more steps per second is no longer gained or the
   memory is full.
4. The papers' tables: data sets, classes and shots from the catalogue, epochs and batches from the configurations,
   times from 1 and 2, divided by the gain of 3.

Everything is printed and written to gpu.md and gpu.json in the folder.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import queue
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarks.reference import PlainOGKD
from benchmarks.scaling import SENTENCES, Place, machine, trainer_of, words
from benchmarks.step import Steps, largest_difference
from ogkd.core import UserError, run_program
from ogkd.core.phases import peak_memory_bytes
from ogkd.data.catalogue import load
from ogkd.evaluation.protocol import BASE2NEW_SHOTS
from ogkd.features.precision import has_bf16
from ogkd.runs.config import resolve
from ogkd.runs.protocols import PROTOCOLS, Places, job
from ogkd.runs.registry import benchmark_methods
from tests.support import random_weights

CLASSES, SHOTS, TINY_CLASSES = (2, 4, 8), 16, (2, 4)
FEW_SHOTS, SEEDS = (1, 2, 4, 8, 16), 3
PROMPT_METHODS = ("CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MaPLe", "BiomedCoOp", "OGKD")
TOLERANCE = 1e-3  # relative difference of a loss from the reference's, in fp32
SIDE_BY_SIDE_SECONDS, GAIN, READY_SECONDS = 8.0, 1.1, 240
BATCH, PIXELS = 4, 256  # of OGKD's steps; the side of the images in pixels
MINUTES = 10  # no more runs are put side by side if that would take longer
GOAL_MINUTES = 15  # ten data sets, three seeds, seven prompt methods, base-to-novel


@dataclass(frozen=True)
class Setting:
    """How a step is computed."""

    device: str
    precision: str = "fp32"
    tf32: bool = False
    graphs: bool = False

    def __str__(self) -> str:
        return ("TF32" if self.tf32 else self.precision) + (", CUDA graphs" if self.graphs else "")

    @property
    def options(self) -> dict[str, object]:
        return {
            "USE_CUDA": self.device == "cuda",
            "FEATURES.PRECISION": self.precision,
            "FEATURES.CUDA_GRAPHS": self.graphs,
        }

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """PyTorch's switches for TF32, as they were afterwards."""
        before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        torch.set_float32_matmul_precision("high" if self.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before[0])
            torch.backends.cudnn.allow_tf32 = before[1]


def settings(device: str) -> list[Setting]:
    """Those that the device can compute. CUDA graphs and TF32 are a GPU's."""
    plain = [Setting(device), *([Setting(device, "bf16")] if has_bf16(torch.device(device)) else [])]
    if device == "cpu":
        return plain
    plain.insert(1, Setting(device, tf32=True))
    return [replace(one, graphs=graphs) for one in plain for graphs in (False, True)]


def clock() -> float:
    """Seconds, after everything that the GPU was given is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def epoch_seconds(trainer: Any) -> float:
    trainer.before_epoch()
    start = clock()
    trainer.run_epoch()
    return clock() - start


# Steps


def steps_of(place: Place, classes: int, shots: int, setting: Setting, compared: bool, size: str) -> dict[str, Any]:
    """Seconds per step of OGKD, and with `compared` those of the reference on the same images, with the largest
    relative difference of a loss."""
    with setting.applied(), contextlib.redirect_stdout(io.StringIO()):
        trainer = trainer_of(
            place, "OGKD", classes, shots, PIXELS, **setting.options, **{"TRAINER.OGKD.TEXT_DROPOUT": 0.0}
        )
        trainer.before_train()
        steps = Steps(trainer)
        epoch_seconds(trainer)  # warm-up, with the recording of graphs
        losses = list(steps.losses)
        row = {"classes": classes, "setting": str(setting), "step": epoch_seconds(trainer) / len(losses)}
        if compared:
            sentences = [[f"{name} number {i}" for i in range(SENTENCES)] for name in words(classes)]
            plain = PlainOGKD(place.weights, words(classes), sentences, trainer.cfg, size, trainer.device)
            trainer.before_epoch()
            batches, rate = list(trainer.train_loader_x.loader), trainer.cfg.OPTIM.WARMUP_CONS_LR
            theirs = [plain.step(batch["img"], batch["label"], rate) for batch in batches]
            start = clock()
            for batch in batches:
                plain.step(batch["img"], batch["label"], rate)
            row |= {"reference": (clock() - start) / len(batches), "difference": largest_difference(losses, theirs)}
    return row


def run_of(place: Place, method: str, shots: int, setting: Setting) -> dict[str, Any]:
    """Seconds of setup and of an epoch of a method with 4 classes; for one that fits at once, of its fit."""
    with setting.applied(), contextlib.redirect_stdout(io.StringIO()):
        start = clock()
        trainer = trainer_of(place, method, 4, shots, PIXELS, **setting.options)
        if not trainer.get_model_names():
            return {"method": method, "setup": clock() - start, "epoch": 0.0, "steps": 0, "images": 4 * shots}
        trainer.before_train()
        setup = clock() - start
        if not trainer.fits:
            epoch_seconds(trainer)
        seconds = epoch_seconds(trainer)
        steps = 0 if trainer.fits else len(trainer.train_loader_x)
    return {"method": method, "setup": setup, "epoch": seconds, "steps": steps, "images": 4 * shots}


def per_image_seconds(place: Place, images: int, setting: Setting) -> float:
    """Seconds to read and encode an image."""
    with setting.applied(), contextlib.redirect_stdout(io.StringIO()):
        trainer = trainer_of(place, "ZeroShot", images, 1, PIXELS, **setting.options)
        trainer.test()
        start = clock()
        trainer.test()
        return (clock() - start) / images


# Side by side


def side_by_side(
    place: Place, most: int, seconds: float, shots: int, setting: Setting, until: float
) -> list[dict[str, Any]]:
    """Steps per second of all processes together, for 1, 2, 4, ... at most `most`; none begins that may not end by
    `until`, in seconds of time.monotonic."""
    rows: list[dict[str, Any]] = []
    number, took = 1, 0.0
    while number <= most and time.monotonic() + 2 * took < until:
        start = time.monotonic()
        rate, peak = _together(place, number, seconds, shots, setting)
        took = time.monotonic() - start
        rows.append({"runs": number, "steps per second": rate, "GB each": peak and peak / 1e9})
        if rate is None or (number > 1 and rate < GAIN * rows[-2]["steps per second"]):
            break
        number *= 2
    return rows


def _together(
    place: Place, number: int, seconds: float, shots: int, setting: Setting
) -> tuple[float | None, float | None]:
    """Steps per second of `number` processes and the most memory of one; None if one fails."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(number), context.Queue()
    places = [Place(place.folder / f"run{i}", place.weights) for i in range(number)]
    processes = [
        context.Process(target=_work, args=(one, seconds, shots, setting, barrier, results), daemon=True)
        for one in places
    ]
    for process in processes:
        process.start()
    try:
        answers = [results.get(timeout=READY_SECONDS + 10 * seconds) for _ in processes]
    except queue.Empty:
        answers = [None]
    for process in processes:
        process.join(timeout=10)
        process.terminate()
    if None in answers:
        return None, None
    return sum(rate for rate, _ in answers), max(peak for _, peak in answers)


def _work(place: Place, seconds: float, shots: int, setting: Setting, barrier: Any, results: Any) -> None:
    """One of several processes: (steps per second, peak memory); None if it fails, as when the memory is full."""
    try:
        with setting.applied(), contextlib.redirect_stdout(io.StringIO()):
            trainer = trainer_of(place, "OGKD", 4, shots, PIXELS, **setting.options)
            trainer.before_train()
            epoch_seconds(trainer)
            barrier.wait(READY_SECONDS)
            start, steps = clock(), 0
            while clock() - start < seconds:
                epoch_seconds(trainer)
                steps += len(trainer.train_loader_x)
            results.put((steps / (clock() - start), peak_memory_bytes() or 0))
    except Exception as error:
        barrier.abort()
        results.put(None)
        if not isinstance(error, torch.cuda.OutOfMemoryError | BrokenBarrierError):
            raise


# The papers' tables


@cache
def amount(protocol: str, method: str, dataset: str, shots: int) -> tuple[int, int, int]:
    """(classes, steps, images) of a run over all its epochs; an incomplete batch is dropped."""
    facts = load().datasets[dataset]
    classes = math.ceil(len(facts.classes) / 2) if protocol == "base2new" else len(facts.classes)
    cfg = resolve(job(protocol, method, facts.config, shots, 1, Places(backbone="BiomedCLIP")).specs[0]).cfg
    batch = min(cfg.DATALOADER.TRAIN_X.BATCH_SIZE, shots * classes)
    steps = cfg.OPTIM.MAX_EPOCH * (shots * classes // batch)
    return classes, steps, steps * batch


def projection(
    steps: Mapping[int, float], runs: Sequence[Mapping[str, Any]], per_image: float, gain: float
) -> dict[str, dict[str, float]]:
    """Minutes of each protocol by method, with all data sets, shots and seeds; `images` are the test images, which are
    encoded once per data set.

    A run is its setup, `per_image` seconds for each image, and the rest of each step. The rest grows with the classes
    as that of OGKD's steps does, linearly between the numbers of classes measured. What a method fits at once grows
    with its images.

    steps: seconds per step of OGKD by number of classes. runs: those of `run_of`. gain: of runs side by side.
    """
    known = sorted(steps)
    rests = [max(steps[n] - BATCH * per_image, 0.0) for n in known]
    at_four = np.interp(4, known, rests)
    projected: dict[str, dict[str, float]] = {}
    for protocol in PROTOCOLS:
        sets = [name for name, facts in load().datasets.items() if protocol != "base2new" or facts.base2new]
        cases = [(name, n) for name in sets for n in ((BASE2NEW_SHOTS,) if protocol == "base2new" else FEW_SHOTS)]
        minutes = projected.setdefault(protocol, {})
        for run in runs:
            rest, total = max(run["epoch"] - run["images"] * per_image, 0.0), 0.0
            for dataset, shots in cases:
                classes, count, images = amount(protocol, run["method"], dataset, shots)
                if run["steps"]:
                    grown = np.interp(classes, known, rests) / at_four if at_four else 1.0
                    training = images * per_image + count * grown * rest / run["steps"]
                else:
                    training = run["epoch"] * shots * classes / run["images"]
                total += SEEDS * (run["setup"] + float(training))
            minutes[run["method"]] = total / gain / 60
        minutes["images"] = per_image * sum(load().datasets[name].counts[2] for name in sets) / 60
    return projected


# Output


def report(results: Mapping[str, Any]) -> str:
    """All tables as Markdown."""

    def table(rows: Sequence[Mapping[str, Any]]) -> str:
        headers = {name: name for row in rows for name in row}
        return tabulate([{name: row.get(name) for name in headers} for row in rows], headers, "github", ".3g")

    tables = results["tables"]
    names = dict.fromkeys(name for of in tables.values() for name in of)
    minutes = [{"method": name, **{protocol: of.get(name) for protocol, of in tables.items()}} for name in names]
    seven = sum(tables["base2new"].get(name, 0.0) for name in PROMPT_METHODS) + tables["base2new"]["images"]
    measured = [name for name in PROMPT_METHODS if name in tables["base2new"]]
    goal = (
        f"Base-to-novel of {len(measured)} prompt methods ({', '.join(measured)}), ten data sets, three seeds: "
        f"{seven:.1f} minutes, projected (goal: seven in {GOAL_MINUTES})."
    )
    return "\n\n".join(
        [
            f"{results['device']}; {results['machine']}; {results['size']} random weights",
            "Seconds per step of OGKD, batches of 4",
            table(results["steps"]),
            f"Setup and epoch of {results['shots']} images in each of 4 classes, in seconds ({results['setting']})",
            table(results["runs"]),
            "OGKD side by side",
            table(results["side by side"]),
            "Minutes for the papers' tables, projected: every data set, three seeds",
            table(minutes),
            goal,
        ]
    )


def measure(args: argparse.Namespace, weights: Path, folder: Path) -> dict[str, Any]:
    until = time.monotonic() + 60 * MINUTES
    device, size = args.device, "tiny" if args.tiny else "full"
    classes, shots = (TINY_CLASSES, 2) if args.tiny else (CLASSES, SHOTS)
    methods = ("CoOp", "LinearProbe", "OGKD") if args.tiny else benchmark_methods()
    place, every = Place(folder, weights), settings(device)
    steps = [steps_of(place, n, shots, one, one == every[0], size) for n in classes for one in every]
    selectable = [one for one in every if not one.tf32]  # no configuration asks for TF32
    best = min(selectable, key=lambda one: sum(row["step"] for row in steps if row["setting"] == str(one)))
    runs = [run_of(place, name, shots, best) for name in methods]
    per_image = per_image_seconds(place, 8 if args.tiny else 512, best)
    together = side_by_side(place, args.most, 0.5 if args.tiny else SIDE_BY_SIDE_SECONDS, shots, best, until)
    rates = [row["steps per second"] for row in together if row["steps per second"]]
    of_best = {row["classes"]: row["step"] for row in steps if row["setting"] == str(best)}
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "machine": machine(), "size": size, "shots": shots, "setting": str(best), "steps": steps, "runs": runs,
        "side by side": together, "seconds per image": per_image,
        "tables": projection(of_best, runs, per_image, max(rates) / rates[0] if rates else 1.0),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to see that it works")
    parser.add_argument("--weights", type=Path, help="folder in BiomedCLIP's format (default: random weights)")
    parser.add_argument("--most", type=int, default=16, help="runs side by side at most (default: 16)")
    parser.add_argument("--out", type=Path, default=Path("gpu"), help="folder for gpu.md and gpu.json (default: gpu)")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise UserError("PyTorch finds no GPU here: run it on a machine with one, or add --device cpu --tiny.")
    with tempfile.TemporaryDirectory(prefix="ogkd-gpu-") as made:
        weights = args.weights or random_weights.write(Path(made) / "weights", "tiny" if args.tiny else "full")
        results = measure(args, weights, Path(made))
    args.out.mkdir(parents=True, exist_ok=True)
    text = report(results)
    (args.out / "gpu.md").write_text(text + "\n", encoding="utf-8")
    (args.out / "gpu.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)
    wrong = [row for row in results["steps"] if row.get("difference", 0) > TOLERANCE]
    for row in wrong:
        print(f"Losses with {row['classes']} classes differ from the reference's by {row['difference']:.1g}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(run_program(main))
