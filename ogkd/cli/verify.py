"""Test BiomedCoOp's released prompts on the available data sets and compare with the published accuracies.

Nothing is trained: if the accuracies agree, the data, transforms, towers and text path match those of the published
runs. Prompts are fetched from the Hugging Face hub into its cache. The exit code is 0 if all accuracies agree within
0.5 points, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from ogkd.cli.many import Seeds
from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.core.words import underscored
from ogkd.data.catalogue import config_name
from ogkd.runs.protocols import PROTOCOLS, Places, integer, is_there


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("datasets", nargs="*", metavar="DATASET", help="default: those in DATA")
    p.add_argument("--protocol", nargs="+", type=underscored, choices=PROTOCOLS, default=[], help="default: both")
    p.add_argument("--shots", nargs="+", default=[], help="default: all that are released")
    p.add_argument("--seeds", nargs="+", action=Seeds, default=[], help="default: all that are released, 1-3")
    p.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help="a local copy of the prompts' repository")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from ogkd.runs.released import REPOSITORY, chosen

    places = Places()
    shots = [integer(number, "--shots", 1) for number in args.shots]
    wanted = with_data(chosen([*map(config_name, args.datasets)], args.protocol, shots, args.seeds), places)
    if args.folder:
        wanted = with_prompts(wanted, args.folder)
    print(f"Testing {len(wanted)} prompts from {args.folder or REPOSITORY} on {places.backbone_for(wanted[0].dataset)}")
    print(f"{'protocol':<10}{'data set':<12}{'shots':>5}{'seed':>6}  {'classes':<8}", end="")
    print(f"{'published':>10}{'ours':>8}{'difference':>12}")
    agreed = [agrees for released in wanted for agrees in verified(released, args.folder, places)]
    print(f"{sum(agreed)} of {len(agreed)} agree")
    return 0 if all(agreed) else 1


def with_data(wanted: list, places: Places) -> list:
    """The prompts whose data sets are available; a note lists the others."""
    from ogkd.core.hashes import git_blob_sha1
    from ogkd.data.catalogue import Facts, load

    names = list(dict.fromkeys(released.dataset for released in wanted))
    absent = [name for name in names if not is_there(name, places.data)]
    remedy = f"`{command('download', *absent, '--root', places.data)}` fetches them"
    if absent == names:
        raise UserError(f"No data set to test on is in {places.data}: {remedy}.")
    if absent:
        print(f"note: {', '.join(absent)} are left out because they are missing: {remedy}.", file=sys.stderr)
    for facts in (cast(Facts, load().find(name)) for name in names if name not in absent):
        if git_blob_sha1(facts.split_file(places.data).read_bytes()) != facts.split_blob_sha1:
            print(f"note: {facts.split_file(places.data)} is not the published split.", file=sys.stderr)
    return [released for released in wanted if released.dataset not in absent]


def with_prompts(wanted: list, folder: Path) -> list:
    """The prompts in a folder laid out like the repository; a note says how many are missing."""
    there = [released for released in wanted if (folder / released.file).is_file()]
    lacking = [released.file for released in wanted if released not in there]
    if not there:
        raise UserError(f"{folder} has none of the prompts, such as {lacking[0]}: give a copy of the repository.")
    if lacking:
        print(f"note: {len(lacking)} prompts are not in {folder}, the first is {lacking[0]}.", file=sys.stderr)
    return there


def verified(released, folder: Path | None, places: Places) -> list[bool]:
    """Test a prompt and print one line per accuracy. Returns which of them agree."""
    from ogkd.runs.execute import execute
    from ogkd.runs.released import TOLERANCE, agrees, fetch

    file = (folder / released.file).absolute() if folder else fetch(released, os.environ.get("HF_ENDPOINT"))
    agreed = []
    for spec, published in zip(released.specs(file, places), released.accuracies, strict=True):
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):  # log.txt has it
            ours = cast(dict, execute(spec))["accuracy"]
        agreed.append(agrees(ours, published))
        classes = {"new": "novel"}.get(spec.subsample, spec.subsample)
        print(
            f"{released.protocol:<10}{released.dataset:<12}{released.shots:>5}{released.seed:>6}  {classes:<8}", end=""
        )
        verdict = f"within {TOLERANCE}" if agreed[-1] else f"NOT within {TOLERANCE}"
        print(f"{published:>10.2f}{ours:>8.2f}{ours - published:>+12.2f}  {verdict}", flush=True)
    return agreed
