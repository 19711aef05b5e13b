"""PMC-CLIP (arXiv 2303.07240) from its published checkpoint.pt: CLIP's modified ResNet-50 and a PubMedBERT.

Text features are the last hidden state of [CLS] times text_projection, as in its training. Public code that uses the
checkpoint differs in two ways that are not followed here: it pools with the BERT's pooler, which training never
updated, and it gives the image tower's attention pool 8 heads, while training gave it width * 32 / 64 = 32. (For 8
heads, put a config.json in PMC-CLIP's own format, with head_width 256 in vision_cfg, beside the checkpoint.) The fusion
module and the masked-language head are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ogkd.models import weights
from ogkd.models.bert import config_of_state
from ogkd.models.configurations import pmc_settings, pmc_spec
from ogkd.models.interface import FrozenCLIP
from ogkd.models.sources import PMC_CLIP, PMC_WEIGHTS, Repository, weights_in
from ogkd.models.tokenizers import transformers_tokenizer
from ogkd.models.towers import OpenClipResNet, TransformersText

_TEXT = "text_encoder."
_IGNORED = tuple(f"text.{name}" for name in ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"))


class _PMCCLIP(nn.Module):
    """The parts of PMC-CLIP that encode images and texts, before weights are loaded."""

    def __init__(self, state: Mapping[str, Tensor], path: Path, settings: Mapping[str, int]) -> None:
        super().__init__()
        from open_clip.modified_resnet import ModifiedResNet
        from transformers import BertConfig, BertModel

        width, embed_dim = state["text_projection"].shape
        stem = state["visual.layer1.0.conv1.weight"].shape[0]
        self.visual = ModifiedResNet(
            layers=[_blocks(state, stage) for stage in (1, 2, 3, 4)],
            output_dim=embed_dim,
            heads=max(1, stem * 32 // settings["head_width"]),
            image_size=settings["image_size"],
            width=stem,
        )
        bert = BertConfig(**config_of_state(state, _TEXT, PMC_CLIP.tokenizer or "", path))
        self.text = BertModel(bert, add_pooling_layer=False)
        self.projection = nn.Linear(width, embed_dim, bias=False)


def _blocks(state: Mapping[str, Tensor], stage: int) -> int:
    block = re.compile(rf"visual\.layer{stage}\.(\d+)\.")
    return 1 + max(int(match[1]) for match in map(block.match, state) if match)


def load_folder(name: str, folder: Path, repository: Repository | None = None) -> FrozenCLIP:
    """Load the model of a folder with checkpoint.pt, on the CPU, with a tokenizer from the folder or the hub.

    `repository` is the hub repository that the folder is a copy of, if any; a missing tokenizer is taken from
    PMC-CLIP's. Raises ModelError if files are missing, corrupt or not PMC-CLIP's.
    """
    from open_clip.hf_model import ClsLastHiddenStatePooler

    path = weights_in(folder, (PMC_WEIGHTS,))
    settings = pmc_settings(folder)
    fingerprint = weights.fingerprint(path, settings)
    state = weights.read(path)
    needed = ["text_projection", "logit_scale", *(f"visual.layer{stage}.0.conv1.weight" for stage in (1, 2, 3, 4))]
    weights.require(state, needed, path, "PMC-CLIP")
    model = weights.built(lambda: _PMCCLIP(state, path, settings), "transformers", path)
    renamed = {"projection.weight": state["text_projection"].T.contiguous()}
    for key, value in state.items():
        if key.startswith(("visual.", _TEXT)):
            renamed[re.sub(f"^{re.escape(_TEXT)}", "text.", key)] = value
    weights.fill(model, renamed, path, name, ignored=_IGNORED)
    return FrozenCLIP(
        name=name,
        image=OpenClipResNet(model.visual),
        text=TransformersText(model.text, ClsLastHiddenStatePooler(), model.projection),
        tokenizer=transformers_tokenizer(folder, repository or PMC_CLIP),
        spec=pmc_spec(folder),
        embed_dim=model.projection.out_features,
        context_length=settings["context_length"],
        log_logit_scale=float(state["logit_scale"]),
        fingerprint=fingerprint,
    )
