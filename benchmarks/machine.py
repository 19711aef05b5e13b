"""The limits of a machine, which bound every benchmark, and the history of results.

A benchmark is bounded by the rate of matrix products in the precision used, by memory bandwidth for thin products, such
as those of a few texts, and by the speed of decoding and cropping images.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tabulate import tabulate

from ogkd.core import read_image

HISTORY = Path(__file__).with_name("RESULTS.md")
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "transformers")
ROWS, WIDTH, HIDDEN = 1576, 768, 3072  # the larger matrix product of ViT-B/16 on 8 images of 197 tokens
THIN_ROWS = 40  # tokens of about four short texts
REPEATS = 5


@dataclass(frozen=True)
class Floor:
    """Rates measured on this machine: billions of operations per second, and images per second."""

    products: dict[str, float]  # by precision, for many rows
    thin_products: dict[str, float]  # for the tokens of a few texts, with weights from memory
    decoded: float  # 512 x 512 JPEGs, read and decoded by one thread

    @classmethod
    def measure(cls, precisions: tuple[str, ...] = ("fp32",), device: str = "cpu") -> Floor:
        """The best of a few repetitions each; takes a second or two in total."""
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        many = {name: _products(ROWS, 1, kinds[name], device) for name in precisions}
        thin = {name: _products(THIN_ROWS, 24, kinds[name], device) for name in precisions}
        return cls(many, thin, _decoded())

    def __str__(self) -> str:
        rows = [
            [f"matrix products, {name}, GFLOP/s", self.products[name], self.thin_products[name]]
            for name in self.products
        ]
        rows.append(["images of 512 x 512 decoded per second, one thread", self.decoded, None])
        headers = ["limits of this machine", "many rows", f"{THIN_ROWS} rows, weights from memory"]
        return tabulate(rows, headers, floatfmt=".0f", missingval="")


def _products(rows: int, layers: int, kind: torch.dtype, device: str) -> float:
    """Billions of operations per second of (rows, 768) @ (768, 3072), cycling through `layers` weights."""
    given = torch.randn(rows, WIDTH, device=device).to(kind)
    weights = [torch.randn(HIDDEN, WIDTH, device=device).to(kind) for _ in range(layers)]

    def multiply() -> None:
        for weight in weights:
            given @ weight.t()
        if device != "cpu":
            torch.cuda.synchronize()

    return 2 * rows * WIDTH * HIDDEN * layers / fastest(multiply) / 1e9


def _decoded() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        coarse = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((512, 512), Image.Resampling.BICUBIC).save(path, quality=90)
        return 1 / fastest(lambda: read_image(str(path)))


def fastest(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The shortest of a few durations in seconds, after a warm-up."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def name_of(device: str = "cpu") -> str:
    """The machine in a few words."""
    if device != "cpu":
        return torch.cuda.get_device_name(device)
    cpu = platform.processor() or platform.machine()
    facts = Path("/proc/cpuinfo")
    if facts.is_file():
        names = [line.split(":", 1)[1].strip() for line in facts.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    return f"{cpu}, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"


def load() -> float | None:
    """Load average of the last minute, if the system reports it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def record(benchmark: str, result: str, path: Path = HISTORY, device: str = "cpu") -> str:
    """Append a line for this machine and today to the history, and return it."""
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    busy = load()
    where = name_of(device) + (f", load {busy:.1f}" if busy is not None else "")
    today = datetime.date.today().isoformat()
    python = f"Python {'.'.join(map(str, sys.version_info[:3]))}"
    line = f"| {today} | {benchmark} | {where} | {result} | {python}, {versions} |"
    if not path.is_file():
        path.write_text(
            "# What the benchmarks measured\n\nOne line per machine and date; `--record` appends one.\n\n"
            "| date | benchmark | machine | result | versions |\n| --- | --- | --- | --- | --- |\n",
            encoding="utf-8",
        )
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    return line
