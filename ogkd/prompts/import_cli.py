"""The command line of `python scripts/import_prompts.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError, report_error
from ogkd.core.places import command
from ogkd.prompts.bank import banks_folder
from ogkd.prompts.importing import import_prompts, published_files


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if prompts were written, otherwise 2 with a sentence on stderr."""
    options = _parser().parse_args(arguments)
    try:
        result = import_prompts(options.origin, options.name, options.folder)
    except UserError as error:
        report_error(error)
        return 2
    if result.verified:
        print("The file is identical to a published one, byte for byte.")
    else:
        print(f"WARNING: this is not the file published as {_paths()}; its prompts are imported as they are.")
    for dataset, path in result.written.items():
        print(f"{dataset}: written to {path}")
    for dataset, reason in result.lacking.items():
        print(f"{dataset}: not written, {reason}")
    if result.unused:
        print(f"Classes in the file that no data set here has: {', '.join(result.unused)}")
    print(f"Use them with TRAINER.<METHOD>.PROMPT_BANK {options.name}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=command("import-prompts"),
        description=f"Convert the prompts published by BiomedCoOp and OGKD ({_paths()}) to a bank in this project's "
        "format. Both files have the same content.",
    )
    parser.add_argument("origin", metavar="FILE_OR_URL", help="the published Python source: a copy, or its raw address")
    parser.add_argument("--name", required=True, help="name of the bank, a folder below prompts/, such as biomedcoop")
    parser.add_argument("--folder", type=Path, default=banks_folder(), help="use this folder instead of prompts/")
    return parser


def _paths() -> str:
    return " or ".join(file.path for file in published_files())
