#!/usr/bin/env python3
"""Put one mistake after another into the methods' code, and see whether the fast tests notice.

    python -m benchmarks.mutations [--only ogkd.py prograd.py] [--table FILE]

A mutation replaces a text that stands exactly once in a file by another that makes the method compute something else.
It is caught if a test fails. Each is tried in a copy of this checkout, in a fork of a process that has already imported
PyTorch, so that it takes about a second of processor time. The exit code is 1 if one survives.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import yaml
from tabulate import tabulate

from ogkd.core import UserError, run_program

ROOT = Path(__file__).resolve().parents[1]
TREES = ("trainers", "ogkd/tuning", "dassl/optim")  # where the files are looked for, in any folder
HEAVY = ("torch", "torchvision", "open_clip", "timm", "transformers.models.bert.modeling_bert",
         "transformers.models.clip.modeling_clip", "sklearn.linear_model", "scipy.stats", "pandas",
         "hypothesis.extra.numpy", "PIL.Image", "pydicom", "pytest")  # fmt: skip
QUICK = ("-x", "-q", "-m", "not slow", "--tb=no", "--assert=plain", "-p", "no:cacheprovider",
         "-p", "no:unraisableexception")  # fmt: skip
"""What pytest is told: stop at the first failure, and leave out whatever only makes its report better."""

FILES: dict[str, dict[str, list]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


class Mutation(NamedTuple):
    file: str  # its name, in any folder of TREES; where it has moved to another file, the text finds it
    tests: tuple[str, ...]
    old: str
    new: str
    why: str

    def place(self, root: Path) -> Path:
        """The file that has the text: one of that name, or else any.

        Raises UserError unless the text stands there exactly once.
        """
        counts: dict[Path, int] = {}
        for name in (self.file, "*.py"):
            paths = [path for tree in TREES for path in sorted((root / tree).rglob(name))]
            counts = {path: n for path in paths if (n := path.read_text(encoding="utf-8").count(self.old))}
            if counts:
                break
        if list(counts.values()) != [1]:
            raise UserError(
                f"The text {self.old!r} stands {sum(counts.values())} times in {self.file} (or else below "
                f"{' and '.join(TREES)}), not once: adapt the mutation '{self.why}' to the code."
            )
        return next(iter(counts))


def mutations(only: Sequence[str] = ()) -> Iterator[Mutation]:
    for file, entry in FILES.items():
        if not only or file in only:
            yield from (Mutation(file, tuple(entry["tests"]), *mistake) for mistake in entry["mistakes"])


def _left_out(folder: str, names: list[str]) -> set[str]:
    """What a copy of the checkout does without."""
    top = {name for name in names if name.startswith(".") or name in ("cache", "data", "output")}
    return {"__pycache__"} | (top if Path(folder) == ROOT else set())


def fails(root: Path, tests: Sequence[str]) -> bool:
    """Whether a test of the checkout `root` fails, in a fork of this process."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _run_tests(root, tests)
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1] != 0


def _run_tests(root: Path, tests: Sequence[str]) -> int:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(ROOT)):
            del sys.modules[name]
    sys.path[:] = [str(root), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    os.chdir(root)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1), os.dup2(silent, 2)
    import pytest

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main([*QUICK, *(f"tests/{test}" for test in tests)]))


def survives(mutation: Mutation, root: Path) -> bool:
    """Whether all tests pass although the mutation is in the checkout `root`, which is as before afterwards."""
    path = mutation.place(root)
    text, status = path.read_text(encoding="utf-8"), path.stat()
    try:
        path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
        os.utime(path, (0, 0))  # so that no compiled file of the original is taken for it
        return not fails(root, mutation.tests)
    finally:
        path.write_text(text, encoding="utf-8")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], choices=FILES, metavar="FILE", help="mutate these files alone")
    parser.add_argument("--table", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    tried = list(mutations(args.only))
    for mutation in tried:
        mutation.place(ROOT)
    for name in HEAVY:
        importlib.import_module(name)
    gc.freeze()  # so that a fork's collections leave these modules' memory shared
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "checkout"
        shutil.copytree(ROOT, root, ignore=_left_out)
        every_test = list(dict.fromkeys(test for mutation in tried for test in mutation.tests))
        if fails(root, every_test):  # this run also compiles every file, once
            raise UserError("The tests fail without a mutation: mend them first.")
        sys.dont_write_bytecode = True
        rows = []
        for mutation in tried:
            survived = survives(mutation, root)
            rows.append([mutation.file, mutation.why, "SURVIVED" if survived else "caught"])
            print(*rows[-1], sep="  ", flush=True)
    survivors = sum(row[-1] == "SURVIVED" for row in rows)
    table = tabulate(rows, ["file", "what goes wrong", "tests"], tablefmt="github")
    table += f"\n\n{len(rows) - survivors} of {len(rows)} caught in {time.monotonic() - start:.0f} s"
    print(f"\n{table}")
    if args.table:
        args.table.write_text(f"{table}\n", encoding="utf-8")
    sys.exit(bool(survivors))


if __name__ == "__main__":
    sys.exit(run_program(main))
