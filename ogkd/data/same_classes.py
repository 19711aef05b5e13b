"""Which class of one list is which class of another: by name, never by position."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ogkd.data.names import class_words


def spelling(name: str) -> str:
    """Return what names of one class have in common: letters' case, Unicode form, spaces, underscores and hyphens
    between words are ignored. Other signs are not: ER+ and ER- are two classes."""
    words = class_words(re.sub(r"(?<=\w)-(?=\w)", " ", unicodedata.normalize("NFC", name)))
    return unicodedata.normalize("NFC", words.casefold())


def places(wanted: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Return {name in `wanted`: its position in `known`}, without the names that `known` lacks.

    A name that is not in `known` exactly as it is means the class with the same spelling, if each list has only one.
    """
    exact = {name: place for place, name in enumerate(known)}
    mine, theirs = Counter(map(spelling, wanted)), Counter(map(spelling, known))
    spelled = {spelling(name): place for place, name in enumerate(known)}
    matches = {}
    for name in wanted:
        as_spelled = spelling(name)
        if name in exact:
            matches[name] = exact[name]
        elif mine[as_spelled] == theirs[as_spelled] == 1:
            matches[name] = spelled[as_spelled]
    return matches
