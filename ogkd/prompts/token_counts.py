"""Counts the tokens of a sentence for each text tower, or bounds them where the tokenizer is not available.

For the default towers only the tokenizers library is needed, neither PyTorch nor a model.
"""

from __future__ import annotations

import gzip
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ogkd.core.places import PACKAGE

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Counter = Callable[[Sequence[str]], list[int]]
PHANTOMCLIP = PACKAGE / "models" / "phantomclip"
CLIP_MERGES = 49152 - 256 - 2  # the merges in the vocabulary file that OpenAI's CLIP uses


@dataclass(frozen=True)
class TextTower:
    """`count` returns each sentence's number of tokens, special ones included, or an upper bound if not `exact`."""

    name: str
    context_length: int
    exact: bool
    count: Counter


def default_towers() -> list[TextTower]:
    """Return the towers that need no download: CLIP, BiomedCLIP with a bound, and PhantomCLIP if it is installed.

    PubMedCLIP's tokenizer and length are CLIP's.
    """
    towers = [
        TextTower("CLIP", 77, True, lambda sentences: _count(_clip_tokenizer(), sentences, special=2)),
        TextTower("BiomedCLIP", 256, False, bound_word_pieces),
    ]
    if PHANTOMCLIP.is_dir():
        from tokenizers import Tokenizer

        config = json.loads((PHANTOMCLIP / "open_clip_config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_file(str(PHANTOMCLIP / "tokenizer.json"))
        length = config["model_cfg"]["text_cfg"]["context_length"]
        towers.append(TextTower("PhantomCLIP", length, True, lambda sentences: _count(tokenizer, sentences)))
    return towers


def tower_of(name: str) -> TextTower:
    """Return the text tower of a model that models.load knows, counted with its own tokenizer.

    A sentence that is too long counts as one token more than the tower reads. Raises UserError when loading fails.
    """
    from ogkd import models

    model = models.load(name)

    def count_one(sentence: str) -> int:
        try:
            return int(model.tokenize([sentence]).mask.sum())
        except models.ModelError:  # the sentence is too long; the error does not say by how much
            return model.context_length + 1

    return TextTower(model.name, model.context_length, True, lambda sentences: list(map(count_one, sentences)))


def _count(tokenizer: Tokenizer, sentences: Sequence[str], special: int = 0) -> list[int]:
    return [len(encoding.ids) + special for encoding in tokenizer.encode_batch(list(sentences))]


@cache
def _clip_tokenizer() -> Tokenizer:
    """Build CLIP's byte-pair encoding with the tokenizers library, from the vocabulary file in open_clip."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    package = find_spec("open_clip")
    assert package is not None and package.origin is not None  # it is a requirement
    vocabulary = Path(package.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")[1 : CLIP_MERGES + 1]
    merges = [(first, second) for first, second in map(str.split, lines)]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    entries = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair) for pair in merges)]
    known = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
    tokenizer = Tokenizer(models.BPE(known, merges, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def bound_word_pieces(sentences: Sequence[str]) -> list[int]:
    """Return the most tokens that a WordPiece vocabulary can produce: one per character, plus [CLS] and [SEP]."""
    return [len("".join(unicodedata.normalize("NFD", sentence).split())) + 2 for sentence in sentences]
