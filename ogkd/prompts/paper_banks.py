"""`--bank`: the teacher sentences of many runs at once, such as those that each method's own paper used."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ogkd.core import UserError, expanded
from ogkd.core.hashes import git_blob_sha1
from ogkd.data import catalogue
from ogkd.data.catalogue import own_folder
from ogkd.prompts.bank import bank_folders, find_bank
from ogkd.prompts.importing import Published, import_prompts, is_address, published_files, read_source

PUBLISHED = "published"
RAW = "https://raw.githubusercontent.com/"


@dataclass(frozen=True)
class Banks:
    """The bank of each method's runs: its own paper's if there is one, else `usual`."""

    usual: str
    own: dict[str, str]

    def of(self, method: str) -> str:
        return self.own.get(method, self.usual)


def banks(word: str, datasets: Iterable[str]) -> Banks:
    """The banks that a word means, imported unless they are there.

    `published`: the files of BiomedCoOp and OGKD, each for its own method and BiomedCoOp's for the others. A file, an
    http(s) address or a folder with a checkout of either repository: what it holds, for all methods. A folder of
    <DATASET>.json files: these. Anything else is the name of a bank.

    Raises:
        UserError: it cannot be read, or a data set has no sentences in it.
    """
    files = published_files()
    if word == PUBLISHED:
        for file in files:
            if not any(folder.is_dir() for folder in bank_folders(file.bank)):
                _import(RAW + file.path, file.bank)
        result = Banks(files[0].bank, {file.method: file.bank for file in files})
    elif is_address(word) or Path(expanded(word)).exists():
        result = Banks(_given(word, files), {})
    elif os.sep in word or "/" in word or not any(folder.is_dir() for folder in bank_folders(word)):
        raise UserError(f"There is no bank, file or folder '{word}': correct --bank, or leave it out.")
    else:
        result = Banks(word, {})
    known = catalogue.load()
    for bank in {result.usual, *result.own.values()}:
        names = [facts.name if (facts := known.find(dataset)) else own_folder(dataset) for dataset in datasets]
        if lacking := [name for name in names if not find_bank(name, bank).is_file()]:
            raise UserError(
                f"The bank {bank} has no sentences for {', '.join(lacking)}: choose other data sets or another --bank."
            )
    return result


def _given(origin: str, files: Iterable[Published]) -> str:
    """Import a file, an address or a checkout unless it is there. Returns the name of the bank, which for a file that
    is not a published one is that of its content; of a folder of <DATASET>.json files, its path."""
    place, inside = Path(expanded(origin)), ["/".join(file.path.split("/")[3:]) for file in files]
    if place.is_dir():
        there = [place / path for path in inside if (place / path).is_file()]
        if not there and any(place.glob("*.json")):
            return str(place.absolute())
        if not there:
            raise UserError(f"The folder {origin} has neither files <DATASET>.json nor {' or '.join(inside)}.")
        origin = str(there[0])
    elif place.suffix == ".json":
        raise UserError(f"{origin} has the sentences of one data set: give its folder, {place.parent}/, as the bank.")
    blob = git_blob_sha1(read_source(origin))
    bank = next((file.bank for file in files if file.blob_sha1 == blob), f"imported-{blob[:7]}")
    if not any(folder.is_dir() for folder in bank_folders(bank)):
        _import(origin, bank)
    return bank


def _import(origin: str, bank: str) -> None:
    imported = import_prompts(origin, bank)
    verified = "is a published file" if imported.verified else "is not a published file; it is imported as it is"
    print(f"Teacher sentences: the bank {bank} from {origin}, which {verified}.")
