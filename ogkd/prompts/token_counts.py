"""Counts the tokens of a sentence for each text tower, or bounds them where the tokenizer is not available."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTower:
    """`count` returns each sentence's number of tokens, special ones included, or an upper bound if not `exact`."""

    name: str
    context_length: int
    exact: bool
    count: Callable[[Sequence[str]], list[int]]


def default_towers() -> list[TextTower]:
    """The towers that need no download: CLIP's, which is PubMedCLIP's too, PhantomCLIP's, and a bound for BiomedCLIP's.

    Imports PyTorch.
    """
    from ogkd.models.tokenizers import native_tokenizer

    clip = native_tokenizer()
    return [
        TextTower("CLIP", 77, True, lambda sentences: list(map(len, clip(list(sentences))))),
        TextTower("BiomedCLIP", 256, False, bound_word_pieces),
        tower_of("PhantomCLIP"),
    ]


def tower_of(name: str) -> TextTower:
    """The text tower of a model that models.load knows, with its own tokenizer. Raises UserError when loading fails."""
    from ogkd import models

    model = models.load(name)
    count = model.tokenizer
    return TextTower(model.name, model.context_length, True, lambda sentences: list(map(len, count(list(sentences)))))


def bound_word_pieces(sentences: Sequence[str]) -> list[int]:
    """The most tokens that a WordPiece vocabulary can produce: one per character, plus [CLS] and [SEP]."""
    return [len("".join(unicodedata.normalize("NFD", sentence).split())) + 2 for sentence in sentences]
