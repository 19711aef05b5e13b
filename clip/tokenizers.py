"""Tokenizers of transformers, from the model's own folder or the hub's cache."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import ModelError
from .sources import first_file


def transformers_tokenizer(folder: Path, hub_name: str | None = None) -> Callable[[list[str]], list[list[int]]]:
    """Texts to lists of token ids with special tokens, cleaned as open_clip cleans them, neither padded nor cut.

    Raises ModelError when neither the folder nor the hub's cache (under `hub_name`) has a readable tokenizer.
    """
    from open_clip.tokenizer import get_clean_fn
    from transformers import AutoTokenizer

    own = first_file(folder, ("tokenizer.json", "vocab.txt", "vocab.json"))
    if own is None and hub_name is None:
        raise ModelError(f"The model folder {folder} has no tokenizer: put tokenizer.json or vocab.txt into it.")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder if own else hub_name, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception for a damaged file
        raise ModelError(
            f"The tokenizer of {folder} cannot be read: put complete copies of tokenizer.json, "
            "tokenizer_config.json and vocab.txt into that folder."
        ) from error
    clean = get_clean_fn("whitespace")
    return lambda texts: tokenizer(
        [clean(text) for text in texts], add_special_tokens=True, padding=False, truncation=False, verbose=False
    )["input_ids"]
