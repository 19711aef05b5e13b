"""OpenAI's module clip.simple_tokenizer under its own names: the byte pair encoding of CLIP's texts."""

from __future__ import annotations

from typing import Any

import regex
from open_clip import tokenizer as native

START, END = "<|startoftext|>", "<|endoftext|>"
_OPEN_CLIP_NAMES = {"<start_of_text>": START, "<end_of_text>": END}

default_bpe = native.default_bpe


class SimpleTokenizer(native.SimpleTokenizer):
    """open_clip's tokenizer, which has OpenAI's merges and ids, with OpenAI's names for the two special tokens.

    `encoder` and `decoder` map word pieces to ids and back; `encode(text)` returns the ids of a text without special
    tokens, `decode(ids)` the text in lower case with single spaces.
    """

    encoder: dict[str, int]
    pat: Any

    def __init__(self, bpe_path: str = default_bpe()) -> None:
        super().__init__(bpe_path)
        self.encoder = {_OPEN_CLIP_NAMES.get(piece, piece): index for piece, index in self.encoder.items()}
        self.decoder = {index: piece for piece, index in self.encoder.items()}
        self.cache = {START: START, END: END}
        special = "|".join(map(regex.escape, (START, END)))
        ordinary = self.pat.pattern.removeprefix("|".join(_OPEN_CLIP_NAMES))
        self.pat = regex.compile(special + ordinary, regex.IGNORECASE)
