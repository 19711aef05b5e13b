"""A BERT's configuration from its weights, for checkpoints published without one (BiomedCLIP's)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ogkd.models.errors import ModelError

_HEAD_WIDTH = 64  # of every BERT of the original paper (arXiv 1810.04805)


def config_of_state(state: Mapping[str, Tensor], prefix: str, published_name: str, path: Path) -> dict:
    """The config.json of the BERT whose tensors in `state` begin with `prefix`; BERT's defaults for the rest.

    `path` is the weights file, for the message. Raises ModelError when the tensors are not a BERT's or `published_name`
    belongs to another family.
    """
    needed = {
        "words": "embeddings.word_embeddings.weight",
        "positions": "embeddings.position_embeddings.weight",
        "types": "embeddings.token_type_embeddings.weight",
        "intermediate": "encoder.layer.0.intermediate.dense.weight",
    }
    missing = [prefix + name for name in needed.values() if prefix + name not in state]
    if missing or "roberta" in published_name.lower():
        reason = f"{missing[0]} is not in {path}" if missing else "a RoBERTa numbers its positions differently"
        raise ModelError(
            f"The text tower {published_name} cannot be built as a BERT from its weights ({reason}): put its "
            "config.json beside the weights."
        )
    shapes = {name: tuple(state[prefix + key].shape) for name, key in needed.items()}
    vocabulary, width = shapes["words"]
    layer = re.compile(re.escape(prefix) + r"encoder\.layer\.(\d+)\.")
    layers = {int(match[1]) for match in map(layer.match, state) if match}
    return {
        "model_type": "bert",
        "architectures": ["BertModel"],
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": max(layers) + 1,
        "num_attention_heads": max(1, width // _HEAD_WIDTH),
        "intermediate_size": shapes["intermediate"][0],
        "max_position_embeddings": shapes["positions"][0],
        "type_vocab_size": shapes["types"][0],
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
