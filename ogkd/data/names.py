"""Class names: how they are written as words, and which of them cannot be told apart."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable

from ogkd.core.words import listed

# What programs write for a missing label, in exactly these spellings: "none" may be a class.
MISSING = {"None", "nan", "NaN", "NAN", "NaT", "<NA>", "NA", "N/A", "#N/A", "null", "NULL", "Null", "undefined"}
JOINERS = "\u200c\u200d"


def tidy(name: str) -> str:
    """Return a name in Unicode's composed form (NFC), with single spaces, none at the ends, and no invisible marks.

    Spaces of every kind become plain ones; a zero-width joiner stays, since some scripts need it.
    """
    marks = unicodedata.normalize("NFC", name)
    return " ".join("".join(mark for mark in marks if unicodedata.category(mark) != "Cf" or mark in JOINERS).split())


def class_words(name: str) -> str:
    """Write a class or folder name as words in a sentence: `tidy`, with spaces for underscores."""
    return tidy(name.replace("_", " "))


def folded(name: str) -> str:
    """Return what two names have in common that differ only in case, spaces, underscores or Unicode form."""
    return class_words(unicodedata.normalize("NFKC", name)).casefold() or name


def is_number(value: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(\.0*)?", value))


def only_numbers(names: Collection[str]) -> str:
    """Return a phrase if all of the class names are numbers, about which a text encoder knows nothing; else ""."""
    if not names or not all(map(is_number, names)):
        return ""
    return f"the class names are numbers ({listed(names, 10)}), of which a prompt is made"


def name_faults(names: Iterable[str]) -> list[str]:
    """Return what is wrong with the names of a data set's classes, one per class; no full stops."""
    before: dict[str, str] = {}
    faults = []
    for name in names:
        if not tidy(name):
            faults.append(f"a class has no name, but {name!r}: name it")
        elif tidy(name) in MISSING:
            faults.append(
                f"the class {name!r} is what programs write for a missing label: label these images or remove them; "
                "if it is a class, write it in words, such as 'no finding'"
            )
        elif other := before.get(folded(name)):
            faults.append(
                f"{other!r} and {name!r} both give the class {class_words(name)!r}, since case, spaces, underscores "
                "and the form of accents make no difference: rename or merge them"
            )
        before[folded(name)] = name
    return faults
