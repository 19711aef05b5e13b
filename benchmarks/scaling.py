#!/usr/bin/env python3
"""Seconds and memory against classes, shots, image sizes, methods, runs per engine, test images and finished runs.

    python -m benchmarks.scaling [--out FOLDER] [--only PART [PART ...]] [--weights FOLDER] [--tiny]

writes scaling.md and scaling.png into the folder. Each size is measured in a process of its own, so that its memory is
its own: `MB` is what it takes beyond the imported program. `CPU seconds` are those of all its processes and threads.
`growth` is the exponent with which these grow from the size before; 1 is in proportion to the work. Weights are random;
by default they are those of a tiny model, so that the program counts and not the towers. A part that grows faster than
its work is named at the end, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import math
import multiprocessing
import os
import platform
import string
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tabulate import tabulate

from dassl.data.datasets import Datum
from ogkd.core import UserError, progress, run_program
from ogkd.core.phases import peak_memory_bytes
from ogkd.core.torchtools import set_random_seed
from ogkd.data.given import GivenImages
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import bootstrap
from ogkd.models import ImageFeatures
from ogkd.runs.config import build_config, method_config
from ogkd.runs.execute import threads_for
from ogkd.runs.protocols import Places, job
from ogkd.runs.registry import benchmark_methods, trainer_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.teacher import Teacher
from tests.support import random_weights

STEEPEST = 1.2  # growth that counts as in proportion to the work, with the noise of a shared machine
LONG_ENOUGH = 1.0  # CPU seconds; what is shorter is not judged
SENTENCES = 50
PRELOADED = ["ogkd.runs.execute", "ogkd.runs.config", "ogkd.evaluation.statistics", "ogkd.models.open_clip_models"]
Timed = Callable[[], object]


@dataclass
class Place:
    """Where a measurement works: an empty folder, and the folder of the weights."""

    folder: Path
    weights: Path


@dataclass(frozen=True)
class Part:
    """prepare(place, size) returns what is timed. work: how much a size is to do, as a number in proportion."""

    title: str
    sizes: Sequence[Any]
    tiny: Sequence[Any]
    prepare: Callable[[Place, Any], Timed]
    work: Callable[[Any], float] | None = float


@dataclass
class Measured:
    part: str
    size: Any
    seconds: float
    cpu: float
    megabytes: float
    growth: float | None = field(default=None)


# What is measured


def words(number: int) -> list[str]:
    """Different names, two letters each."""
    letters = itertools.product(string.ascii_lowercase, repeat=2)
    return [f"sign {a}{b}" for a, b in itertools.islice(letters, number)]


def trainer_of(place: Place, method: str, classes: int, images: int, pixels: int = 64, **options: object) -> Any:
    """A trainer of a method on `images` images of noise in each of some classes, with SENTENCES sentences per class."""
    place.folder.mkdir(parents=True, exist_ok=True)
    random, names, data = np.random.default_rng(0), words(classes), []
    for number in range(classes * images):
        path = place.folder / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (pixels, pixels, 3), dtype=np.uint8)).save(path, compress_level=0)
        data.append(Datum(impath=str(path), label=number % classes, classname=names[number % classes]))
    sentences = {name: [f"{name} number {i}" for i in range(SENTENCES)] for name in names}
    settings = {
        "DATASET.NAME": "ImageFolder", "DATASET.NUM_SHOTS": -1, "FEATURES.CACHE_DIR": "", "VERBOSE": False,
        "DATALOADER.NUM_WORKERS": 0, "OPTIM.MAX_EPOCH": 1, "USE_CUDA": False, **options,
    }  # fmt: skip
    spec = RunSpec(
        method=method, folder=str(place.folder / "run"), seed=1, backbone=str(place.weights),
        method_file=method_config(method, "few_shot", ""),
        pairs=tuple(str(word) for pair in settings.items() for word in pair),
    )  # fmt: skip
    set_random_seed(1)
    held_out = data[:classes]
    return trainer_class(method)(build_config(spec), GivenImages(data, held_out, held_out, sentences=sentences))


def step(place: Place, classes: int) -> Timed:
    trainer = trainer_of(place, "OGKD", classes, 1)
    trainer.before_train()
    trainer.before_epoch()
    trainer.batch_idx, trainer.num_batches = 0, 2  # not the last of an epoch
    batch = next(iter(trainer.train_loader_x))
    trainer.forward_backward(batch)
    return lambda: trainer.forward_backward(batch)


def teacher(place: Place, classes: int) -> Timed:
    return trainer_of(place, "OGKD", classes, 1).before_train


def epoch(place: Place, shots: int, classes: int = 4) -> Timed:
    return trainer_of(place, "OGKD", classes, math.ceil(shots / classes)).train


def pixels(place: Place, side: int) -> Timed:
    return trainer_of(place, "OGKD", 4, 16, side).train


def patches(place: Place, side: int, classes: int = 100) -> Timed:
    """OGKD's losses on the patches of an image tower of 16-pixel patches, forward and backward, without the towers."""
    model = trainer_of(place, "OGKD", classes, 1).method
    width, batch = 512, 32
    model.teacher = Teacher(F.normalize(torch.randn(classes, SENTENCES, width), dim=-1))
    model.prototypes, model.graph = model.teacher.prototypes, torch.full((classes, classes), 1 / classes)
    text = F.normalize(torch.randn(classes, width), dim=-1).requires_grad_()
    tokens = F.normalize(torch.randn(batch, 1 + (side // 16) ** 2, width), dim=-1)
    features, label = ImageFeatures(tokens[:, 0], tokens[:, 1:]), torch.arange(batch) % classes

    def losses() -> None:
        logits = model.scale * features.global_token @ text.t()
        torch.stack(list(model.terms(features, label, text, logits).values())).sum().backward()

    losses()
    return losses


def own_folder(place: Place, images: int) -> Timed:
    """A whole run of CoOp on a folder of one's own images, all of which it learns from or tests on."""
    random, folder = np.random.default_rng(0), place.folder / "own"
    for number in range(images):
        path = folder / words(4)[number % 4] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path, compress_level=0)
    places = Places(place.folder, place.folder / "output", str(place.weights))
    pairs = ("FEATURES.CACHE_DIR", str(place.folder / "cache"), "OPTIM.MAX_EPOCH", "1", "USE_CUDA", "False")
    return job("few_shot", "CoOp", folder.name, -1, 1, places, pairs)


def method(place: Place, name: str) -> Timed:
    return trainer_of(place, name, 4, 16).train


def engine(name: str) -> Callable[[Place, int], Timed]:
    """Runs of zero-shot CLIP on Phantom, two side by side."""

    def prepare(place: Place, runs: int) -> Timed:
        from ogkd.phantom.dataset import write_dataset
        from ogkd.runs.engines import go_through
        from ogkd.runs.engines.options import Settings
        from ogkd.runs.plan import plan

        write_dataset(place.folder / "data" / "Phantom", counts={"train": 2, "val": 1, "test": 4})
        places = Places(place.folder / "data", place.folder / "output", "PhantomCLIP")
        pairs = ("FEATURES.CACHE_DIR", str(place.folder / "cache"), "DATALOADER.NUM_WORKERS", "0", "USE_CUDA", "False")
        todo = plan("few_shot", ["phantom"], ["ZeroShot"], range(1, runs + 1), [1], places, pairs)
        return lambda: go_through(todo, Settings(engine=name, jobs=2, logs=place.folder / "logs"))

    return prepare


def noisy(images: int, classes: int = 8) -> Predictions:
    random = np.random.default_rng(0)
    labels = random.integers(0, classes, images)
    logits = random.normal(size=(images, classes)) + 1.5 * np.eye(classes)[labels]
    return Predictions(tuple(f"{i}.png" for i in range(images)), labels, logits, tuple(words(classes)))


def interval(metric: str) -> Callable[[Place, int], Timed]:
    def prepare(place: Place, images: int) -> Timed:
        predictions = noisy(images)
        return lambda: bootstrap(metric, predictions)

    return prepare


def finished(place: Place, runs: int, classes: int = 6, images: int = 500) -> Path:
    """Finished runs as of the few-shot protocol: twelve methods, five numbers of shots, three seeds, then data sets."""
    from tests.report_runs import write_log, write_run

    names = [name for name in benchmark_methods() if name != "ZeroShotEnsemble"][:12]
    cases = list(itertools.product((1, 2, 4, 8, 16), names, (1, 2, 3)))
    for number in range(runs):
        dataset, case = divmod(number, len(cases))
        shots, name, seed = cases[case]
        folder = place.folder / f"set{dataset}" / f"shots_{shots}" / name / f"seed{seed}"
        write_run(folder, "few_shot", name, seed, noisy(images, classes), shots, dataset=f"Set{dataset}")
        write_log(folder, [2.0, 1.5, 1.0 + number / runs])
    return place.folder


def tables(place: Place, runs: int) -> Timed:
    from ogkd.cli.tables import main as print_tables

    folder = finished(place, runs)
    return lambda: print_tables([str(folder), "--table", "few_shot", "--backbone", "PhantomCLIP"])


def page(place: Place, runs: int) -> Timed:
    from ogkd.reports.page import write

    folder = finished(place, runs)
    return lambda: write(folder, place.folder / "report.html")


PARTS = {
    "step": Part("step of OGKD, by classes", (2, 8, 32, 128, 500), (2, 4), step),
    "teacher": Part(f"bank of {SENTENCES} sentences, by classes", (2, 10, 50, 100, 500), (2, 4), teacher),
    "shots": Part("epoch of OGKD, by training images", (4, 64, 1000, 10_000), (4, 8), epoch),
    "own-folder": Part("run of CoOp on all images of a folder, by images", (100, 1000, 10_000), (12, 24), own_folder),
    "pixels": Part("epoch of 64 images, by their side in pixels", (64, 256, 1024, 2048), (32, 64),
                   pixels, lambda side: side**2),
    "patches": Part("OGKD's losses, 32 images, 100 classes, by the tower's side in pixels", (112, 224, 448), (32, 64),
                    patches, lambda side: side**2),
    "methods": Part("epoch of 4 x 16 images, by method", benchmark_methods(), ("ZeroShot", "CoOp"), method, None),
    **{
        f"engine-{name}": Part(f"zero-shot runs, two side by side, --engine {name}", (2, 8, 32), (1, 2), engine(name))
        for name in ("local", "ray")
        if name == "local" or importlib.util.find_spec(name)
    },
    **{
        f"interval-{name}": Part(f"2,000 draws of {name}, by test images", (1000, 10_000, 100_000), (50, 100),
                                 interval(name))
        for name in ("accuracy", "macro_auroc", "aurc", "classwise_ece")
    },
    "tables": Part("tables, by finished runs", (180, 720, 1980), (2, 4), tables),
    "page": Part("page, by finished runs", (180, 720, 1980), (2, 4), page),
}  # fmt: skip


# Measuring


def measure(name: str, size: Any, weights: Path) -> Measured:
    """One size of a part, in a process of its own."""
    server = "forkserver" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if server else "spawn")
    if server:
        context.set_forkserver_preload(PRELOADED)
    results = context.SimpleQueue()
    process = context.Process(target=_measure, args=(name, size, weights, results))
    process.start()
    process.join()
    if process.exitcode:
        raise UserError(f"{PARTS[name].title}: the process for {size} ended with code {process.exitcode}.")
    return Measured(name, size, *results.get())


def _measure(name: str, size: Any, weights: Path, results: Any) -> None:
    before = peak_memory_bytes() or 0
    with (
        tempfile.TemporaryDirectory(prefix="ogkd-scaling-") as made,
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        threads_for(str(weights)),
    ):
        timed = PARTS[name].prepare(Place(Path(made) / "data", weights), size)
        start, cpu = time.perf_counter(), _cpu_seconds()
        timed()
        seconds, cpu = time.perf_counter() - start, _cpu_seconds() - cpu
    results.put((seconds, cpu, ((peak_memory_bytes() or 0) - before) / 1e6))


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return time.process_time() + sum(os.times()[2:4])


def with_growth(measured: list[Measured]) -> list[Measured]:
    """The same with the exponent with which a part's CPU seconds grow from the size before."""
    for one, two in itertools.pairwise(measured):
        work = PARTS[two.part].work
        if one.part == two.part and work and work(one.size) != work(two.size):
            two.growth = math.log(two.cpu / one.cpu) / math.log(work(two.size) / work(one.size))
    return measured


def too_steep(measured: Sequence[Measured]) -> list[Measured]:
    return [one for one in measured if one.growth and one.growth > STEEPEST and one.cpu > LONG_ENOUGH]


# The table and the plot


def machine() -> str:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else math.nan
    return (
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"load {load:.1f} at the end, PyTorch {torch.__version__}"
    )


def table(measured: Sequence[Measured]) -> str:
    rows = [
        (PARTS[one.part].title, str(one.size), f"{one.seconds:.3g}", f"{one.cpu:.3g}", f"{one.megabytes:.0f}",
         "" if one.growth is None else f"{one.growth:.2f}")
        for one in measured
    ]  # fmt: skip
    return tabulate(rows, ("what", "size", "seconds", "CPU seconds", "MB", "growth"), "github", disable_numparse=True)


def plot(measured: Sequence[Measured], path: Path) -> None:
    """CPU seconds and memory of each part over its work; the dotted line grows in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    axes = figure.subplots(1, 2)
    looks = itertools.product(("o-", "s--"), range(10))  # ten colours, twice
    for name, sizes in itertools.groupby(measured, key=lambda one: one.part):
        points, work = list(sizes), PARTS[name].work
        if not work or len(points) < 2:
            continue
        x, (line, colour) = [work(one.size) / work(points[0].size) for one in points], next(looks)
        for axis, values in zip(axes, ([p.cpu for p in points], [p.megabytes for p in points]), strict=True):
            axis.loglog(x, values, line, color=f"C{colour}", markersize=4, label=PARTS[name].title)
    for axis, title in zip(axes, ("CPU seconds", "memory in MB"), strict=True):
        axis.set(title=title, xlabel="work, in multiples of the smallest size")
        axis.axline((1, axis.get_ylim()[0]), (10, 10 * axis.get_ylim()[0]), color="grey", linestyle=":")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("scaling"), help="folder for scaling.md and scaling.png")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART",
                        help=f"of {', '.join(PARTS)}")  # fmt: skip
    parser.add_argument("--weights", type=Path, help="folder in BiomedCLIP's format (default: a tiny random model)")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that it works")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="ogkd-scaling-") as made:
        weights = args.weights or random_weights.write(Path(made), "tiny")
        todo = [(name, size) for name in args.only for size in (PARTS[name].tiny if args.tiny else PARTS[name].sizes)]
        measured = with_growth([measure(name, size, weights) for name, size in progress(todo, "scaling", unit="size")])
    args.out.mkdir(parents=True, exist_ok=True)
    text = f"{table(measured)}\n\n{machine()}\n"
    (args.out / "scaling.md").write_text(text, encoding="utf-8")
    (args.out / "scaling.json").write_text(json.dumps([vars(one) for one in measured], indent=1), encoding="utf-8")
    plot(measured, args.out / "scaling.png")
    print(text)
    steep = too_steep(measured)
    for one in steep:
        print(f"{PARTS[one.part].title}: {one.size} takes {one.cpu:.1f} CPU seconds, growth {one.growth:.2f}")
    return 1 if steep else 0


if __name__ == "__main__":
    sys.exit(run_program(main))
