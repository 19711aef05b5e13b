"""`python scripts/import_prompts.py`: converts a published bank of prompts, a Python source with one large dict, to
files in this project's format.

The source is parsed and its dict read as a literal; nothing in it is ever executed.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ogkd.core import UserError, expanded, write_json
from ogkd.core.hashes import git_blob_sha1
from ogkd.core.places import command
from ogkd.core.transfer import TransferError, read_small, writing
from ogkd.data import catalogue
from ogkd.prompts.bank import Bank, bank_folders, is_bank, own_banks

MOST_BYTES = 8 << 20


@dataclass(frozen=True)
class Published:
    """A prompt file in a public repository; `blob_sha1` is git's hash of its content, `method` its paper's."""

    path: str  # as in the address of the raw file: owner/name/commit/path
    blob_sha1: str
    variable: str
    bank: str = ""
    method: str = ""


def published_files() -> tuple[Published, ...]:
    """The published prompts: BiomedCoOp's file (Koleilat et al., CVPR 2025), and OGKD's (arXiv 2606.04922) with the
    same content."""
    known = catalogue.load()
    return (
        Published(
            f"{known.split_repository}/{known.split_commit}/trainers/prompt_templates.py",
            "b3089ea99fd7a2a8369cb80ce6c8450017278d0d",
            "BIOMEDCOOP_TEMPLATES",
            "biomedcoop",
            "BiomedCoOp",
        ),
        Published(
            "tientrandinh/OGKD/adbd69ceaf5c954c4874c7acfa507b345bf8e1d1/trainers/method/prompt_templates.py",
            "9f8782e9cc428f672af8bc6e7f0c70199a003d12",
            "PROMPT_TEMPLATES",
            "ogkd",
            "OGKD",
        ),
    )


@dataclass(frozen=True)
class Imported:
    written: dict[str, Path]
    lacking: dict[str, str]  # data set -> why its file was not written
    unused: list[str]  # classes of the source that no data set has
    verified: bool  # whether the source is identical to a published one


def import_prompts(
    origin: str, name: str, folder: Path | None = None, published: Sequence[Published] | None = None
) -> Imported:
    """Write <name>/<DATASET>.json for each published data set all of whose classes the source has, into `folder` or
    else one's own banks.

    `origin` is a file or an http(s) address. Raises UserError if it cannot be read, is not such a source, should be a
    published one and is not, or fits no data set; also if `name` is not valid as a folder name.
    """
    published, folder = published or published_files(), folder or own_banks()
    if not name:
        raise UserError("--name is empty: give the bank a name, such as biomedcoop.")
    (target,) = bank_folders(name, folder)
    source = read_source(origin)
    blob = git_blob_sha1(source)
    verified = blob in {file.blob_sha1 for file in published}
    if not verified and is_address(origin) and origin.endswith(tuple(f"/{file.path}" for file in published)):
        raise UserError(
            f"What {origin} sent is not the published file (git calls its content {blob}): fetch it again, or import a "
            "copy that you trust as a file."
        )
    bank = parse_bank(source, [file.variable for file in published], origin)
    lacking, chosen = {}, {}
    for dataset, facts in catalogue.load().datasets.items():
        counts = {classname: len(bank.get(classname, ())) for classname in facts.classes}
        missing = [classname for classname, count in counts.items() if not count]
        if missing:
            lacking[dataset] = f"no prompts for {', '.join(missing)}"
        elif len(set(counts.values())) > 1:
            lacking[dataset] = f"unequal numbers of prompts, {', '.join(f'{n} of {c}' for c, n in counts.items())}"
        else:
            chosen[dataset] = {classname: bank[classname] for classname in facts.classes}
    if not chosen:
        raise UserError(f"{origin} does not have all classes of any published data set: import a file that does.")
    written = {dataset: target / f"{dataset}.json" for dataset in chosen}
    for dataset, prompts in chosen.items():
        with writing(f"{dataset}.json", target):
            write_json(prompts, written[dataset])
    used = {classname for prompts in chosen.values() for classname in prompts}
    return Imported(written, lacking, [classname for classname in bank if classname not in used], verified)


def is_address(origin: str) -> bool:
    return origin.startswith(("http://", "https://"))


def read_source(origin: str) -> bytes:
    """Read a file or http(s) address, at most MOST_BYTES. Raises UserError."""
    if is_address(origin):
        try:
            return read_small(origin, most=MOST_BYTES)
        except TransferError as error:
            raise UserError(f"The prompts cannot be downloaded ({error}): try again or import a file.") from error
    path = Path(expanded(origin))
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"The file {path} cannot be read ({error.strerror}): give a file or an http(s) URL.") from error
    if len(content) > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MiB, which no prompt file is: give another one.")
    return content


def parse_bank(source: bytes, variables: Sequence[str], origin: str) -> Bank:
    """Read the dict literal {class name: [sentences]} that a Python source assigns to one of `variables`, without
    executing it.

    Raises UserError if there is not exactly one such assignment, or its value is not such a literal.
    """
    try:
        module = ast.parse(source, filename=origin)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{origin} is not a Python source: give the complete raw file, not a web page that shows it."
        ) from error
    assigned = [pair for statement in module.body if (pair := _assigned(statement)) and pair[0] in variables]
    if len(assigned) != 1:
        raise UserError(
            f"{origin} assigns {' or '.join(variables)} {len(assigned)} times instead of once: give the file that "
            "BiomedCoOp or OGKD published."
        )
    variable, value = assigned[0]
    try:
        content = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise UserError(
            f"{variable} in {origin} is not a plain literal, and code is not executed here: write its sentences out."
        ) from error
    if not is_bank(content):
        raise UserError(f"{variable} in {origin} is not of the form {{class name: [sentences]}}: correct it there.")
    return content


def _assigned(statement: ast.stmt) -> tuple[str, ast.expr] | None:
    """Return the name of the only variable that a statement assigns, and its value; None for any other statement."""
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return name, value
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            return name, value
    return None


def main(arguments: Sequence[str] | None = None) -> None:
    """Import the file on the command line and print what was written. Raises UserError."""
    paths = " or ".join(file.path for file in published_files())
    parser = argparse.ArgumentParser(
        prog=command("import-prompts"),
        description=f"Convert the prompts published by BiomedCoOp and OGKD ({paths}) to a bank in this project's "
        "format. Both files have the same content.",
    )
    parser.add_argument("origin", metavar="FILE_OR_URL", help="the published Python source: a copy, or its raw address")
    parser.add_argument("--name", required=True, help="name of the bank, a folder below prompts/, such as biomedcoop")
    parser.add_argument("--folder", type=Path, help="write below this folder instead of prompts/")
    options = parser.parse_args(arguments)
    result = import_prompts(options.origin, options.name, options.folder)
    if result.verified:
        print("The file is identical to a published one, byte for byte.")
    else:
        print(f"WARNING: this is not the file published as {paths}; its prompts are imported as they are.")
    for dataset, path in result.written.items():
        print(f"{dataset}: written to {path}")
    for dataset, reason in result.lacking.items():
        print(f"{dataset}: not written, {reason}")
    if result.unused:
        print(f"Classes in the file that no data set here has: {', '.join(result.unused)}")
    bank = options.folder / options.name if options.folder else options.name
    print(f"Use them with TRAINER.OGKD.PROMPT_BANK {bank} (with the method in place of OGKD).")
