"""Tokenizers: CLIP's own, and those in transformers' format from a model's files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ogkd.core.errors import first_line
from ogkd.models.configurations import unsupported
from ogkd.models.errors import ModelError
from ogkd.models.sources import VOCABULARIES, Repository, first_file, tokenizer_folder

CLEANINGS = ("lower", "whitespace", "canonicalize")
"""open_clip's ways to clean a text; the last removes punctuation."""


@dataclass(frozen=True)
class Tokenizer:
    """A callable from texts to lists of token ids, with special tokens, neither padded nor truncated; `words` lists the
    vocabulary in the order of the ids, `special` the ids that no text has, and `padding` is the id that the tokenizer
    itself would pad with."""

    encode: Callable[[list[str]], list[list[int]]]
    words: Callable[[], list[str]]
    special: Callable[[], Iterable[int]]
    padding: int | None = 0

    def __call__(self, texts: list[str]) -> list[list[int]]:
        return self.encode(texts)


def native_tokenizer(clean: str = "lower") -> Tokenizer:
    """CLIP's own byte pair encoding, as in open_clip; `</w>` ends a word. `clean` is one of CLEANINGS."""
    from open_clip.tokenizer import SimpleTokenizer

    native = SimpleTokenizer(clean=clean)
    return Tokenizer(
        lambda texts: [[native.sot_token_id, *native.encode(text), native.eot_token_id] for text in texts],
        lambda: [native.decoder[index] for index in range(native.vocab_size)],
        lambda: native.all_special_ids,
    )


def transformers_tokenizer(
    folder: Path,
    repository: Repository | None = None,
    published_name: str | None = None,
    clean: str = "",
    strip_separator: bool = False,
) -> Tokenizer:
    """Load the tokenizer of a folder in transformers' format.

    `clean` is one of CLEANINGS or, as in transformers itself, "" for none. `strip_separator` leaves out the token that
    ends a text. If the folder has no tokenizer, it is taken from `repository`, the hub repository that the folder is a
    copy of, or from the one that sources.py gives for it. `published_name`, the tokenizer's name in the configuration,
    is used only in messages. Raises ModelError if the tokenizer is missing, cannot be read or pads at the start.
    """
    from open_clip.tokenizer import get_clean_fn
    from transformers import AutoTokenizer

    if first_file(folder, VOCABULARIES) is None:
        if repository is None:
            of = f" of {published_name}" if published_name else ""
            raise ModelError(
                f"The model folder {folder} has no tokenizer: put tokenizer.json or vocab.txt{of} beside the weights."
            )
        folder = tokenizer_folder(repository)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except ImportError as error:  # SigLIP's needs sentencepiece
        raise ModelError(
            f"The tokenizer in {folder} needs packages that are missing here ({first_line(error)}): run `pip install "
            "sentencepiece protobuf`."
        ) from error
    except Exception as error:  # the tokenizers library raises a bare Exception for a corrupt file
        raise ModelError(
            f"The tokenizer in {folder} cannot be read: put intact copies of tokenizer.json, tokenizer_config.json "
            "and vocab.txt into that folder."
        ) from error
    if tokenizer.padding_side != "right":
        raise ModelError(
            f"The tokenizer in {folder} pads at the start of a text, which is not supported: set padding_side to right "
            "in tokenizer_config.json if the model was trained so, or choose another model."
        )
    cleaned = get_clean_fn(clean) if clean else str

    def encode(texts: list[str]) -> list[list[int]]:
        texts = [cleaned(text) for text in texts]
        ids = tokenizer(texts, add_special_tokens=True, padding=False, truncation=False, verbose=False)["input_ids"]
        if strip_separator:
            ids = [row[:-1] if row[-1:] == [tokenizer.sep_token_id] else row for row in ids]
        return ids

    return Tokenizer(
        encode,
        lambda: tokenizer.convert_ids_to_tokens(range(len(tokenizer))),
        lambda: [index for index, token in tokenizer.added_tokens_decoder.items() if token.special],
        tokenizer.pad_token_id,
    )


def require_pooling_at_end(tokenizer: Tokenizer, token: int | None, path: Path) -> None:
    """Raise ModelError unless a text tower pooled at the first such token (None: at the highest id) is pooled where the
    tokenizer's texts end; `path` is the configuration."""
    *before, end = tokenizer(["a"])[0]
    token = max(len(tokenizer.words()) - 1, *before) if token is None else token
    if token != end or end in before:
        raise unsupported(path, f"text pooling at the token {token}, where texts end with the token {end}")
