"""How many tokens a text tower makes of a sentence: counted where its tokenizer is at hand, bounded where it is not."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import clip
from dassl.utils import UserError

Counter = Callable[[Sequence[str]], list[int]]


class TextTower(NamedTuple):
    """`count` gives each sentence's tokens with the special ones; an upper bound of them where not `exact`."""

    name: str
    context_length: int
    exact: bool
    count: Counter


def default_towers() -> list[TextTower]:
    """The towers that can be judged without fetching anything: CLIP, BiomedCLIP by a bound, PhantomCLIP if it is there.

    PubMedCLIP's tokenizer and length are CLIP's.
    """
    towers = [
        TextTower("CLIP", 77, True, _count_clip),
        TextTower("BiomedCLIP", 256, False, bound_word_pieces),
    ]
    if Path(clip.__file__).with_name("phantomclip").is_dir():
        towers.append(tower_of("PhantomCLIP"))
    return towers


def tower_of(name: str) -> TextTower:
    """The text tower of a model that clip.load knows, counted by its own tokenizer.

    A sentence that is too long counts as one token more than the tower reads. Raises UserError when loading fails.
    """
    try:
        model = clip.load(name)
    except clip.ModelError as error:
        raise UserError(str(error)) from error

    def count(sentences: Sequence[str]) -> list[int]:
        return [_count_one(model, sentence) for sentence in sentences]

    return TextTower(model.name, model.context_length, True, count)


def _count_one(model: clip.FrozenCLIP, sentence: str) -> int:
    try:
        return int(model.tokenize([sentence]).mask.sum())
    except clip.ModelError:  # a sentence that is too long, by how much is not said
        return model.context_length + 1


@cache
def _clip_tokenizer() -> object:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def _count_clip(sentences: Sequence[str]) -> list[int]:
    return [len(_clip_tokenizer().encode(sentence)) + 2 for sentence in sentences]


def bound_word_pieces(sentences: Sequence[str]) -> list[int]:
    """Most tokens that a WordPiece vocabulary can make: one a character, [CLS] and [SEP]."""
    return [len("".join(unicodedata.normalize("NFD", sentence).split())) + 2 for sentence in sentences]
