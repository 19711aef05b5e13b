"""Checks a bank of teacher prompts and lists its faults.

Near-duplicates are measured on a sentence's content words: in lower case, without punctuation, the class name, stop
words (STOP_WORDS) and a plural's final "s". The likeness of two sentences of a class is the larger of two shares, each
from 0 (nothing in common) to 1: the words in both over the words in either (Jaccard), which detects sentences that say
the same in another order, and the share of the shorter sentence's word triples that the longer one contains, which
detects a sentence that was lengthened. A pair with a likeness of NEAR_DUPLICATE or more is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from ogkd.prompts.bank import PROMPTS_A_CLASS, Bank
from ogkd.prompts.token_counts import TextTower

FEWEST_WORDS, MOST_WORDS = 8, 40
NEAR_DUPLICATE = 0.6

STOP_WORDS = frozenset(
    """
    a about above across after all along also among an and any appear appears are around as at be been before
    below beneath between both but by can does each either even for from has have having here however i if in
    into is it its itself like may more most neither no nor not of off often on one only or other over rather
    same see seen show shown showing shows so some such than that the their them then there these they this
    those though through to together toward towards under up upon usually very was well were what when where
    whereas which while whose with within without
    """.split()  # noqa: SIM905 - a list of strings would be harder to read
)


class Row(NamedTuple):
    """The measurements of a class: number of prompts, their words and tokens, likeness of the closest pair."""

    classname: str
    prompts: int
    fewest_words: int
    most_words: int
    tokens: tuple[int, ...]  # in the longest prompt, for each text tower
    closest: float
    closest_pair: tuple[int, int] | None  # positions of its two prompts, counted from 1


class Report(NamedTuple):
    rows: list[Row]
    faults: list[str]

    @property
    def closest(self) -> float:
        """Return the greatest likeness of two prompts of one class."""
        return max((row.closest for row in self.rows), default=0.0)


def fold(sentence: str) -> str:
    """Return the sentence in lower case, without punctuation and with single spaces."""
    return " ".join(re.findall(r"[^\W_]+", sentence.casefold()))


def content_words(sentence: str, classname: str) -> list[str]:
    """Return the words that carry a sentence's meaning, in order: no class name, no stop words, no plural "s"."""
    words = _without_name(sentence, classname).split()
    return [word.removesuffix("s") if len(word) > 3 else word for word in words if word not in STOP_WORDS]


def likeness(first: Sequence[str], second: Sequence[str]) -> float:
    """Return how alike two sentences are, 0 to 1, from their content words (see the top of this file)."""
    one, two = set(first), set(second)
    jaccard = len(one & two) / len(one | two) if one | two else 1.0
    triples = sorted((_triples(first), _triples(second)), key=len)
    contained = len(triples[0] & triples[1]) / len(triples[0]) if triples[0] else 0.0
    return max(jaccard, contained)


def check_bank(
    bank: Bank, classes: Sequence[str] | None, towers: Sequence[TextTower], prompts_a_class: int = PROMPTS_A_CLASS
) -> Report:
    """Measure a data set's prompts and list every fault. `classes`: those of the split, in label order; None if
    unknown."""
    faults = [] if classes is None else list(_class_faults(list(bank), list(classes)))
    rows = []
    for name, sentences in bank.items():
        tokens = [tower.count(sentences) for tower in towers]
        faults += (f"{name}: {what}" for what in _sentence_faults(name, sentences, prompts_a_class))
        for tower, counts in zip(towers, tokens, strict=True):
            faults += (
                f"{name}: prompt {number} {'has' if tower.exact else 'may have'} more tokens than the "
                f"{tower.context_length} that {tower.name} reads"
                for number, count in enumerate(counts, 1)
                if count > tower.context_length
            )
        closest, pair = _closest(name, sentences, faults)
        lengths = [count_words(sentence) for sentence in sentences] or [0]
        longest = tuple(max(counts, default=0) for counts in tokens)
        rows.append(Row(name, len(sentences), min(lengths), max(lengths), longest, closest, pair))
    faults += _shared(bank)
    return Report(rows, faults)


def count_words(sentence: str) -> int:
    """Count the words between spaces; a word has at least one letter or digit."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


def _without_name(sentence: str, classname: str) -> str:
    return f" {fold(sentence)} ".replace(f" {fold(classname)} ", "  ")


def _triples(words: Sequence[str]) -> set[tuple[str, str, str]]:
    return set(zip(words, words[1:], words[2:], strict=False))


def _class_faults(names: list[str], expected: list[str]) -> Iterator[str]:
    missing, extra = set(expected) - set(names), set(names) - set(expected)
    yield from (f"the class '{name}' of the split is missing" for name in expected if name in missing)
    yield from (f"the split has no class '{name}'" for name in names if name in extra)
    if not missing and not extra and names != expected:
        yield f"the classes are in the order {', '.join(names)}, but the split's is {', '.join(expected)}"


def _sentence_faults(name: str, sentences: list[str], prompts_a_class: int) -> Iterator[str]:
    if len(sentences) != prompts_a_class:
        yield f"{len(sentences)} prompts instead of {prompts_a_class}"
    first: dict[str, int] = {}
    for number, sentence in enumerate(sentences, 1):
        words = count_words(sentence)
        if not FEWEST_WORDS <= words <= MOST_WORDS:
            yield f"prompt {number} has {words} words, not {FEWEST_WORDS} to {MOST_WORDS}: {sentence[:60]!r}"
        if name.casefold().replace("_", " ") not in " ".join(sentence.casefold().replace("_", " ").split()):
            yield f"prompt {number} does not name the class: {sentence[:60]!r}"
        earlier = first.setdefault(fold(sentence), number)
        if earlier != number:
            yield f"prompt {number} is prompt {earlier} again: {sentence[:60]!r}"


def _closest(name: str, sentences: list[str], faults: list[str]) -> tuple[float, tuple[int, int] | None]:
    """Return likeness and positions of the closest pair; add every pair that is too close, but not equal, to
    `faults`."""
    words = [content_words(sentence, name) for sentence in sentences]
    closest, pair = 0.0, None
    for one, two in combinations(range(len(sentences)), 2):
        if fold(sentences[one]) == fold(sentences[two]):
            continue
        alike = likeness(words[one], words[two])
        if alike > closest:
            closest, pair = alike, (one + 1, two + 1)
        if alike >= NEAR_DUPLICATE:
            faults.append(f"{name}: prompts {one + 1} and {two + 1} are near-duplicates ({alike:.2f})")
    return closest, pair


def _shared(bank: Bank) -> Iterable[str]:
    """Find sentences that two classes share, either unchanged or with only the class name changed."""
    first: dict[str, tuple[str, int]] = {}
    for name, sentences in bank.items():
        for number, sentence in enumerate(sentences, 1):
            for form in {fold(sentence), " ".join(_without_name(sentence, name).split())}:
                other, position = first.setdefault(form, (name, number))
                if other != name:
                    yield f"{name}: prompt {number} is prompt {position} of {other}: {sentence[:60]!r}"
                    break
