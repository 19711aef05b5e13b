"""Tokenizers of transformers, from the model's own folder or the hub's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import ModelError
from .sources import TOKENIZER_FILES, TRANSFORMERS_CONFIG, Repository, first_file, from_hub

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")


def transformers_tokenizer(folder: Path, hub_name: str | None = None) -> Callable[[list[str]], list[list[int]]]:
    """Texts to lists of token ids with special tokens, cleaned as open_clip cleans them, neither padded nor cut.

    A folder without one has that of the hub's repository `hub_name`. Raises ModelError when it cannot be had or read.
    """
    from open_clip.tokenizer import get_clean_fn
    from transformers import AutoTokenizer

    if first_file(folder, _VOCABULARIES) is None:
        if hub_name is None:
            raise ModelError(f"The model folder {folder} has no tokenizer: put tokenizer.json or vocab.txt into it.")
        folder = from_hub(Repository(hub_name, (), _VOCABULARIES, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG)))
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ModelError(
            f"The tokenizer of {folder} cannot be read: put complete copies of tokenizer.json, "
            "tokenizer_config.json and vocab.txt into that folder."
        ) from error
    clean = get_clean_fn("whitespace")
    return lambda texts: tokenizer(
        [clean(text) for text in texts], add_special_tokens=True, padding=False, truncation=False, verbose=False
    )["input_ids"]
