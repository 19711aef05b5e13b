"""A WordPiece vocabulary of the project's own, so that a checkpoint with random weights needs no one else's files."""

from __future__ import annotations

import itertools
import json
import string
from collections.abc import Iterator
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

_WORDS = Path(__file__).with_name("words.txt")


def vocabulary(size: int) -> list[str]:
    """`size` WordPiece entries: special tokens, printable ASCII and its continuations, words, endings, then letter
    groups. Any text in ASCII letters, digits and punctuation has a tokenisation without [UNK].

    Raises ValueError when size is below what the fixed part needs.
    """
    entries = dict.fromkeys(itertools.chain(SPECIAL, _fixed()))
    if size < len(entries):
        raise ValueError(f"the vocabulary needs at least {len(entries)} entries, not {size}")
    for group in _letter_groups():
        if len(entries) == size:
            break
        entries[group] = None
    return list(entries)


def _fixed() -> Iterator[str]:
    characters = string.ascii_lowercase + string.digits
    yield from characters + string.punctuation
    yield from ("##" + character for character in characters)
    yield from _WORDS.read_text(encoding="utf-8").split()


def _letter_groups() -> Iterator[str]:
    for length in itertools.count(2):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            yield "##" + "".join(letters)
            yield "".join(letters)


def write_tokenizer(folder: Path, size: int, context_length: int) -> None:
    """Write vocab.txt, tokenizer.json, tokenizer_config.json and special_tokens_map.json of a lower-casing BERT."""
    from tokenizers import BertWordPieceTokenizer

    entries = vocabulary(size)
    (folder / "vocab.txt").write_text("\n".join(entries) + "\n", encoding="utf-8")
    tokenizer = BertWordPieceTokenizer({entry: index for index, entry in enumerate(entries)}, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2), encoding="utf-8")
    config = {
        **special,
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": context_length,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
