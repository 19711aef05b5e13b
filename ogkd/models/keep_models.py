"""KEEP (arXiv 2412.13126) from its published repository, without the repository's code: timm's ViT with layer scale and
an MLP after it, and a PubMedBERT whose pooler gives the text.

The architecture is that of modeling_keep.py in Astaxanthin/KEEP; how images are prepared stands in its README.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ogkd.models import weights
from ogkd.models.configurations import KEEP_CONTEXT, TRANSFORMERS_CONFIG, keep_spec, read_json, without_code
from ogkd.models.interface import FrozenCLIP
from ogkd.models.named import TRANSFORMERS_WEIGHTS, Repository
from ogkd.models.sources import weights_in
from ogkd.models.tokenizers import transformers_tokenizer
from ogkd.models.towers import OpenClipViT, TransformersText

_RULES = (
    (r"^visual\.", "visual.trunk."),
    (r"^visual_head\.", "visual.head."),
    (r"\.(ls[12])\.weight$", r".\1.gamma"),  # transformers renames gamma when it saves
)
_IGNORED = ("text.embeddings.position_ids",)
_NEEDED = (
    *(f"visual.trunk.{name}" for name in ("patch_embed.proj.weight", "pos_embed")),
    *("visual.head.0.weight", "visual.head.2.weight", "logit_scale"),
)
_HEAD_WIDTH = 64


class _KEEP(nn.Module):
    """Both towers, before weights are loaded; sizes are read from the renamed tensors."""

    def __init__(self, state: Mapping[str, Tensor], text_config: Mapping) -> None:
        super().__init__()
        from open_clip.timm_model import TimmModel
        from timm.models.vision_transformer import VisionTransformer
        from transformers import BertConfig, BertModel

        width, _, patch, _ = state["visual.trunk.patch_embed.proj.weight"].shape
        side = math.isqrt(state["visual.trunk.pos_embed"].shape[1] - 1) * patch
        hidden, embed_dim = state["visual.head.0.weight"].shape[0], state["visual.head.2.weight"].shape[0]
        depth = len({key.split(".")[3] for key in state if key.startswith("visual.trunk.blocks.")})
        self.visual = TimmModel("test_vit", embed_dim, pool="", proj="linear")
        self.visual.trunk = VisionTransformer(
            side, patch, embed_dim=width, depth=depth, num_heads=width // _HEAD_WIDTH, num_classes=0, init_values=1.0
        )
        self.visual.head = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, embed_dim))
        self.text = BertModel(BertConfig(**without_code(text_config)))
        self.logit_scale = nn.Parameter(state["logit_scale"].clone())
        self.side, self.embed_dim = side, embed_dim


def load_folder(name: str, folder: Path, repository: Repository | None = None) -> FrozenCLIP:
    """Load the model of a folder with KEEP's config.json, weights and tokenizer, on the CPU.

    `repository` is the hub repository that the folder is a copy of, if any. Raises ModelError if files are missing,
    corrupt or not KEEP's.
    """
    from open_clip.hf_model import ClsPooler

    content = read_json(folder / TRANSFORMERS_CONFIG)
    path = weights_in(folder, TRANSFORMERS_WEIGHTS)
    fingerprint, state = weights.fingerprint(path, content), weights.read(path)
    for pattern, replacement in _RULES:
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    weights.require(state, _NEEDED, path, "KEEP")
    model = weights.built(
        lambda: _KEEP(state, content.get("text_config") or {}), "transformers", folder / TRANSFORMERS_CONFIG
    )
    weights.fill(model, state, path, name, ignored=_IGNORED)
    return FrozenCLIP(
        name=name,
        image=OpenClipViT(model.visual),
        text=TransformersText(model.text, ClsPooler(), nn.Identity()),
        tokenizer=transformers_tokenizer(folder, repository),
        spec=keep_spec(folder)._replace(size=model.side),
        embed_dim=model.embed_dim,
        context_length=min(KEEP_CONTEXT, model.text.config.max_position_embeddings),
        log_logit_scale=float(model.logit_scale),
        fingerprint=fingerprint,
    )
