"""The command line of `python scripts/import_prompts.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError, report_error

from .bank import FOLDER
from .importing import biomedcoop, import_prompts


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 when prompts were written, 2 with a sentence on stderr when not."""
    options = _parser().parse_args(arguments)
    try:
        result = import_prompts(options.origin, options.name, options.folder)
    except UserError as error:
        report_error(error)
        return 2
    if result.verified:
        print("The file is, byte for byte, the published one.")
    else:
        print(f"WARNING: this is not the file published as {biomedcoop().path}; its prompts are taken as they are.")
    for dataset, path in result.written.items():
        print(f"{dataset}: written to {path}")
    for dataset, reason in result.lacking.items():
        print(f"{dataset}: not written, {reason}")
    if result.unused:
        print(f"Classes of the file that no data set here has: {', '.join(result.unused)}")
    print(f"Use them by TRAINER.<METHOD>.PROMPT_BANK {options.name}.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python scripts/import_prompts.py",
        description=f"Turn BiomedCoOp's published prompts ({biomedcoop().path}) into a bank of this project's form.",
    )
    parser.add_argument("origin", metavar="FILE_OR_URL", help="the published Python source: a copy, or its raw address")
    parser.add_argument("--name", required=True, help="name of the bank, a folder below prompts/, such as biomedcoop")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="another folder than prompts/")
    return parser
