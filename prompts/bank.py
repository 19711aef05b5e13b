"""Reading teacher prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError, read_json

FOLDER = Path(__file__).parent
PROMPTS_A_CLASS = 50

_IMAGES = ("medical image", "clinical scan", "diagnostic image", "radiology archive image", "medical photograph")
_FORMS = (
    "a {image} of {name}.",
    "a {image} showing {name}.",
    "a {image} with signs of {name}.",
    "this {image} was labelled {name}.",
    "{name}, as seen in a {image}.",
    "a typical {image} of a patient with {name}.",
    "the finding in this {image} is {name}.",
    "an expert described this {image} as {name}.",
    "an example of {name} in a {image}.",
    "{name} fills the centre of this {image}.",
)


def bank_file(dataset: str, bank: str = "", folder: Path = FOLDER) -> Path:
    """Where the prompts of a data set stand: prompts/<DATASET>.json, or prompts/<bank>/<DATASET>.json."""
    if not re.fullmatch(r"[\w.+-]*", bank) or bank.startswith("."):
        raise UserError(f"'{bank}' is no name of a prompt bank: use letters, digits, '-' and '_'.")
    return folder / bank / f"{dataset}.json"


def load_prompts(dataset: str, classnames: Sequence[str], bank: str = "", folder: Path = FOLDER) -> list[list[str]]:
    """The prompts of each class, as many for one as for another.

    Raises:
        UserError: no file, a damaged one, a class without prompts, or classes with unequal numbers of them.
    """
    path = bank_file(dataset, bank, folder)
    other_way = 'or set TRAINER.<METHOD>.PROMPTS templates for general sentences'
    if not path.is_file():
        raise UserError(
            f"There are no teacher prompts for {dataset}: write {path} as {{class name: [sentences]}}, {other_way}."
        )
    content = read_json(path)
    sound = isinstance(content, dict) and all(
        isinstance(sentences, list) and all(isinstance(sentence, str) and sentence.strip() for sentence in sentences)
        for sentences in content.values()
    )
    if not sound:
        raise UserError(f"{path} is not a prompt bank: it must be {{class name: [sentences]}}.")
    missing = [name for name in classnames if not content.get(name)]
    if missing:
        raise UserError(f"The class '{missing[0]}' has no teacher prompts in {path}: write some there, {other_way}.")
    counts = {name: len(content[name]) for name in classnames}
    if len(set(counts.values())) > 1:
        fewest, most = min(counts, key=counts.get), max(counts, key=counts.get)
        raise UserError(
            f"In {path} the class '{fewest}' has {counts[fewest]} prompts but '{most}' has {counts[most]}: "
            f"every class needs as many as the others."
        )
    return [content[name] for name in classnames]


def template_prompts(classnames: Sequence[str]) -> list[list[str]]:
    """50 general sentences for each class name, for classes that nobody wrote prompts for."""
    return [
        [form.format(image=image, name=name.replace("_", " ")) for form in _FORMS for image in _IMAGES]
        for name in classnames
    ]
