"""Reading teacher prompts."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError, expanded
from ogkd.core.places import command, work_folder
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


def bank_file(dataset: str, bank: str = "", folder: Path = FOLDER) -> Path:
    """Return the path of a data set's prompts: this project's <DATASET>.json, else prompts/[<bank>/]<DATASET>.json in
    the checkout or the current folder."""
    if not re.fullmatch(r"[\w.+-]*", bank) or bank.startswith("."):
        raise UserError(f"'{bank}' is not a valid name of a prompt bank: use letters, digits, '-' and '_'.")
    path = folder / bank / f"{dataset}.json"
    return path if folder != FOLDER or (not bank and path.is_file()) else banks_folder() / bank / path.name


def banks_folder() -> Path:
    """The folder of imported banks and sentences for own images."""
    return work_folder() / "prompts"


def find_bank(dataset: str, bank: str = "", folder: Path = FOLDER) -> Path:
    """Return the path of a data set's prompts, whether or not the file exists.

    A `bank` with a path separator is the folder of <DATASET>.json. Without a bank, the folder in the environment
    variable PROMPTS is searched first, then the project's.
    """
    if _is_path(bank):
        return Path(expanded(bank)) / f"{dataset}.json"
    own = os.environ.get("PROMPTS")
    if own and not bank:
        if not Path(expanded(own)).is_dir():
            raise UserError(f"PROMPTS is set to the folder {own}, which does not exist: correct it, or unset it.")
        path = Path(expanded(own)) / f"{dataset}.json"
        if path.is_file() or not bank_file(dataset, "", folder).is_file():
            return path
    return bank_file(dataset, bank, folder)


def _is_path(bank: str) -> bool:
    return any(separator in bank for separator in ("/", os.sep))


def read_bank(path: Path) -> Bank:
    """Read the file's {class name: [sentences]} in its order.

    Raises UserError if it is missing, not JSON, not of this form, or has a class twice.
    """

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
        if twice:
            raise UserError(f"{path} has the class '{twice[0]}' twice: keep one of the two.")
        return dict(pairs)

    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=unique)
    except OSError as error:
        raise UserError(
            f"The prompts {path} cannot be read ({error.strerror}): write them as {{class name: [sentences]}}."
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): correct it there.") from error
    if not isinstance(content, dict) or not all(
        isinstance(sentences, list) and all(isinstance(sentence, str) and sentence.strip() for sentence in sentences)
        for sentences in content.values()
    ):
        raise UserError(f"{path} is not a prompt bank: it must be {{class name: [sentences]}}, none of them empty.")
    return content


def load_prompts(dataset: str, classnames: Sequence[str], bank: str = "", folder: Path = FOLDER) -> list[list[str]]:
    """Load the prompts of each class, the same number for each. A data set of the transfer protocol without its own
    file uses those of its source.

    Raises:
        UserError: the file is missing or corrupt, a class has no prompts, or the numbers of prompts differ.
    """
    path, facts = find_bank(dataset, bank, folder), catalogue.load().find(dataset)
    if facts and facts.source_set and not path.is_file():
        path = find_bank(facts.source_set, bank, folder)
    other_way = "or set TRAINER.<METHOD>.PROMPTS templates for general sentences"
    if not path.is_file():
        source = (
            f"import it with `{command('import-prompts')} FILE_OR_URL --name {bank}`"
            if bank and not _is_path(bank)
            else "write it as {class name: [sentences]}"
        )
        raise UserError(f"There are no teacher prompts for {dataset}, as {path} does not exist: {source}, {other_way}.")
    content = read_bank(path)
    missing = [name for name in classnames if not content.get(name)]
    if missing:
        raise UserError(f"The class '{missing[0]}' has no teacher prompts in {path}: write some there, {other_way}.")
    if path != bank_file(dataset, "", folder):
        print(f"The teacher's sentences are those in {path}.")
    counts = {name: len(content[name]) for name in classnames}
    if len(set(counts.values())) > 1:
        fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        raise UserError(
            f"In {path} the class '{fewest}' has {counts[fewest]} prompts but '{most}' has {counts[most]}: "
            "every class needs the same number."
        )
    return [content[name] for name in classnames]


def template_prompts(classnames: Sequence[str]) -> list[list[str]]:
    """Return 50 general sentences per class name, for classes without written prompts."""
    return [
        [form.format(image=image, name=class_words(name)) for form in _FORMS for image in _IMAGES]
        for name in classnames
    ]
