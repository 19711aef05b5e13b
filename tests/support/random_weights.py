"""Write a checkpoint folder in BiomedCLIP's format with random weights: for benchmarks and tests, without a network.

    python -m tests.support.random_weights FOLDER [--size full|tiny] [--seed 0] [--format safetensors|bin]

`full` has BiomedCLIP's towers (ViT-B/16 at 224 pixels, BERT-base with 30522 words, projection to 512; 784 MB), `tiny` a
few hundred kilobytes. Its features mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ogkd.models.configurations import OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG
from ogkd.models.open_clip_models import build
from ogkd.models.sources import OPEN_CLIP_WEIGHTS

from .wordpiece import write_tokenizer


class Size(NamedTuple):
    """What the two sizes differ in; `trunk` is a timm name, the BERT's heads are 64 wide."""

    trunk: str
    image_size: int
    embed_dim: int
    context_length: int
    vocabulary: int
    width: int
    layers: int
    intermediate: int
    positions: int


SIZES = {
    "full": Size("vit_base_patch16_224", 224, 512, 256, 30522, 768, 12, 3072, 512),
    "tiny": Size("test_vit", 160, 32, 64, 1024, 64, 3, 128, 64),
}


def model_config(size: Size) -> dict:
    """open_clip_config.json as BiomedCLIP's repository has it."""
    return {
        "model_cfg": {
            "embed_dim": size.embed_dim,
            "vision_cfg": {
                "timm_model_name": size.trunk,
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": size.image_size,
            },
            "text_cfg": {
                "hf_model_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "hf_tokenizer_name": "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": size.context_length,
            },
        },
        "preprocess_cfg": {
            "mean": [0.48145466, 0.4578275, 0.40821073],
            "std": [0.26862954, 0.26130258, 0.27577711],
        },
    }


def bert_config(size: Size) -> dict:
    """config.json of the text tower (BiomedCLIP's repository has none; it is needed to build the model here)."""
    return {
        "model_type": "bert",
        "vocab_size": size.vocabulary,
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": max(1, size.width // 64),
        "intermediate_size": size.intermediate,
        "max_position_embeddings": size.positions,
        "type_vocab_size": 2,
        "pad_token_id": 0,
    }


def random_state(shapes: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Usual initial values by a tensor's name: norms 1, biases 0, tables N(0, 0.02^2), matrices N(0, 1/fan-in)."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, like in shapes.items():
        kind = name.rsplit(".", 1)[-1]
        tensor = torch.empty(like.shape)
        if name == "logit_scale":
            tensor.fill_(math.log(1 / 0.07))
        elif kind == "bias":
            tensor.zero_()
        elif like.ndim == 1:
            tensor.fill_(1.0)
        else:
            table = "embeddings" in name or kind != "weight"
            tensor.normal_(0.0, 0.02 if table else like[0].numel() ** -0.5, generator=generator)
        state[name] = tensor
    return state


def write(folder: str | Path, size: str = "full", seed: int = 0, file_format: str = "safetensors") -> Path:
    """Write the checkpoint into `folder` (made if absent) and return the folder."""
    folder, sizes = Path(folder), SIZES[size]
    folder.mkdir(parents=True, exist_ok=True)
    config = model_config(sizes)
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / TRANSFORMERS_CONFIG).write_text(json.dumps(bert_config(sizes)), encoding="utf-8")
        arguments = json.loads(json.dumps(config["model_cfg"]))
        arguments["text_cfg"] |= {"hf_model_name": made, "hf_model_pretrained": False}
        state = random_state(build(arguments, folder).state_dict(), seed)
    # the published file comes from a time when this was stored with the weights
    state["text.transformer.embeddings.position_ids"] = torch.arange(sizes.positions)[None]
    save_state(state, folder / OPEN_CLIP_WEIGHTS[0 if file_format == "safetensors" else 1])
    write_tokenizer(folder, sizes.vocabulary, sizes.context_length)
    (folder / OPEN_CLIP_CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder


def save_state(state: dict[str, Tensor], path: Path) -> None:
    """Write a state dict as .safetensors or, with another suffix, as PyTorch does; whole or not at all."""
    from safetensors.torch import save_file

    temporary = path.with_name(path.name + ".part")
    if path.suffix == ".safetensors":
        save_file(state, temporary)
    else:
        torch.save(state, temporary)
    temporary.chmod(0o644)  # safetensors makes it readable for its owner alone
    temporary.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--size", choices=sorted(SIZES), default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("safetensors", "bin"), default="safetensors")
    arguments = parser.parse_args()
    print(write(arguments.folder, arguments.size, arguments.seed, arguments.format))


if __name__ == "__main__":
    main()
