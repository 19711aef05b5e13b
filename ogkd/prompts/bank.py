"""Reading teacher prompts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ogkd.core import UserError, expanded
from ogkd.core.places import command, work_folder
from ogkd.core.schema import TEXT
from ogkd.data import catalogue
from ogkd.data.names import class_words

FOLDER = Path(__file__).parent
PROMPTS_A_CLASS = 50

Bank = dict[str, list[str]]

_IMAGES = ("medical image", "clinical scan", "diagnostic image", "clinical picture", "patient's examination")
_FORMS = (
    "a {image} of {name}.",
    "a {image} showing {name}.",
    "a {image} with the appearance of {name}.",
    "this {image} was labelled {name}.",
    "{name}, as seen in a {image}.",
    "a {image} that is typical of {name}.",
    "the finding in this {image} is {name}.",
    "an expert described this {image} as {name}.",
    "an example of {name} in a {image}.",
    "{name} is what this {image} shows.",
)


def own_banks() -> Path:
    """The folder for banks and sentences of one's own: prompts/ in the checkout, or in the current folder."""
    return work_folder() / "prompts"


def bank_folders(bank: str = "", folder: Path | None = None) -> list[Path]:
    """Where the files of a bank are searched: below `folder`, or else among one's own banks and in the package. Raises
    UserError for a name with a path in it."""
    if not re.fullmatch(r"(?!\.)[\w.+-]*", bank):
        raise UserError(f"'{bank}' is not a valid name of a prompt bank: use letters, digits, '-' and '_'.")
    return [folder / bank] if folder else [own_banks() / bank, FOLDER / bank] if bank else [FOLDER, own_banks()]


def bank_file(dataset: str, bank: str = "", folder: Path | None = None) -> Path:
    """A data set's file <DATASET>.json in a bank; one's own, whether or not it exists, if there is none."""
    files = [place / f"{dataset}.json" for place in bank_folders(bank, folder)]
    return next((file for file in files if file.is_file()), files[0 if bank else -1])


def find_bank(dataset: str, bank: str = "", folder: Path | None = None) -> Path:
    """As bank_file, but a `bank` with a path separator is the folder of <DATASET>.json, and without a bank the folder
    in the environment variable PROMPTS is searched first."""
    if _is_path(bank):
        return Path(expanded(bank)) / f"{dataset}.json"
    path, own = bank_file(dataset, bank, folder), os.environ.get("PROMPTS")
    if own and not bank:
        if not Path(expanded(own)).is_dir():
            raise UserError(f"PROMPTS is set to the folder {own}, which does not exist: correct it, or unset it.")
        mine = Path(expanded(own)) / f"{dataset}.json"
        return mine if mine.is_file() or not path.is_file() else path
    return path


def _is_path(bank: str) -> bool:
    return any(separator in bank for separator in ("/", os.sep))


def read_bank(path: Path) -> Bank:
    """Read the file's {class name: [sentences]} in its order.

    Raises UserError if it is missing, not JSON, not of this form, or has a class twice.
    """
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise UserError(
            f"The prompts {path} cannot be read ({error.strerror}): write them as {{class name: [sentences]}}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): correct it there.") from error
    if not is_bank(content):
        raise UserError(f"{path} is not a prompt bank: it must be {{class name: [sentences]}}, none of them empty.")
    return content


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the class '{twice}' is there twice")
    return dict(pairs)


def is_bank(content: object) -> bool:
    """Whether it is of the form {class name: [sentences]}, no name and no sentence empty or impossible in UTF-8."""
    return isinstance(content, dict) and all(
        isinstance(of, list) and all(map(TEXT.allows, [name, *of])) for name, of in content.items()
    )


def load_prompts(
    dataset: str, classnames: Sequence[str], bank: str = "", folder: Path | None = None, method: str = "OGKD"
) -> list[list[str]]:
    """Load the prompts of each class, the same number for each. A data set of the transfer protocol without its own
    file uses those of its source. `method`: whose teacher they are for, in messages.

    Raises:
        UserError: the file is missing or corrupt, a class has no prompts, or the numbers of prompts differ.
    """
    path, facts = find_bank(dataset, bank, folder), catalogue.load().find(dataset)
    if facts and facts.source_set and not path.is_file():
        path = find_bank(facts.source_set, bank, folder)
    otherwise = f"or add TRAINER.{method.upper()}.PROMPTS templates for general sentences"
    if not path.is_file():
        source = "write it as {class name: [sentences]}"
        if bank and not _is_path(bank):
            source = f"import it with `{command('import-prompts')} FILE_OR_URL --name {bank}`"
        raise UserError(f"There are no teacher prompts for {dataset}, as {path} does not exist: {source}, {otherwise}.")
    if path != FOLDER / f"{dataset}.json":
        print(f"The teacher's sentences are those in {path}.")
    return of_classes(read_bank(path), classnames, str(path), f", {otherwise}")


def of_classes(bank: Mapping[str, list[str]], classnames: Iterable[str], where: str, more: str = "") -> list[list[str]]:
    """The sentences of each class. Raises UserError, in which `where` names the bank, if a class has none or their
    numbers differ."""
    counts = {name: len(bank.get(name) or ()) for name in classnames}
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if not counts[fewest]:
        raise UserError(f"The class '{fewest}' has no teacher prompts in {where}: write some there{more}.")
    if counts[fewest] != counts[most]:
        raise UserError(
            f"In {where} the class '{fewest}' has {counts[fewest]} prompts but '{most}' has {counts[most]}: "
            "every class needs the same number."
        )
    return [bank[name] for name in counts]


def template_prompts(classnames: Sequence[str]) -> list[list[str]]:
    """Return 50 general sentences per class name, for classes without written prompts."""
    return [
        [form.format(image=image, name=class_words(name)) for form in _FORMS for image in _IMAGES]
        for name in classnames
    ]
