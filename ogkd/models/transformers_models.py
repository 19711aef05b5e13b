"""Models in transformers' format: folders whose config.json has model_type clip (PubMedCLIP) or siglip (MedSigLIP, and
SigLIP 2 of a fixed size)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ogkd.models import weights
from ogkd.models.configurations import TRANSFORMERS_CONFIG, read_json, transformers_spec, unsupported, without_code
from ogkd.models.interface import FrozenCLIP
from ogkd.models.sources import TRANSFORMERS_WEIGHTS, Repository, weights_in
from ogkd.models.tokenizers import require_pooling_at_end, transformers_tokenizer
from ogkd.models.towers import SiglipText, SiglipViT, TransformersCLIPText, TransformersViT

_OLD_EOS = 2
_IGNORED = ("text_model.embeddings.position_ids", "vision_model.embeddings.position_ids")


def load_folder(name: str, folder: Path, repository: Repository | None = None) -> FrozenCLIP:
    """Load the model of a folder with config.json, weights and tokenizer, on the CPU.

    `repository` is the hub repository that the folder is a copy of, if any. Raises ModelError if files are missing,
    corrupt or do not belong together.
    """
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    content = read_json(folder / TRANSFORMERS_CONFIG)
    spec = transformers_spec(folder)
    path = weights_in(folder, TRANSFORMERS_WEIGHTS)
    fingerprint = weights.fingerprint(path, content)
    state = weights.read(path)
    pools = content["model_type"] == "siglip"
    kinds: tuple[Any, Any] = (SiglipModel, SiglipConfig) if pools else (CLIPModel, CLIPConfig)
    model = weights.built(
        lambda: kinds[0](kinds[1](**without_code(content))), "transformers", folder / TRANSFORMERS_CONFIG
    )
    config = model.config
    weights.fill(model, state, path, name, ignored=_IGNORED)
    tokenizer = transformers_tokenizer(folder, repository)
    image: nn.Module
    text: nn.Module
    if pools:
        # transformers 4 leaves out an entry that is true
        if tokenizer.padding is None or not getattr(config.vision_config, "vision_use_head", True):
            raise unsupported(folder / TRANSFORMERS_CONFIG, "a SigLIP without a padding token or attention pooling")
        image, text = SiglipViT(model.vision_model), SiglipText(model.text_model, tokenizer.padding)
        embed_dim = model.text_model.head.out_features
    else:
        eos = config.text_config.eos_token_id  # 2 in old configurations, which are pooled at the highest id
        require_pooling_at_end(tokenizer, None if eos == _OLD_EOS else eos, folder / TRANSFORMERS_CONFIG)
        image = TransformersViT(model.vision_model, model.visual_projection)
        text = TransformersCLIPText(model.text_model, model.text_projection)
        embed_dim = config.projection_dim
    return FrozenCLIP(
        name=name,
        image=image,
        text=text,
        tokenizer=tokenizer,
        spec=spec,
        embed_dim=embed_dim,
        context_length=config.text_config.max_position_embeddings,
        log_logit_scale=float(model.logit_scale),
        logit_bias=float(model.logit_bias) if pools else 0.0,
        fingerprint=fingerprint,
    )
