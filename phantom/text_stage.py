"""Second stage: trains the text tower and both projections on captions, with the image tower locked.

The training is contrastive (Radford et al., ICML 2021) with a locked image tower (Zhai et al., CVPR 2022), on the class
token and on the mean of the patches with the finding, so that patches too can be compared with texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from ogkd.phantom.images import MODALITIES

from .captions import caption
from .corpus import FINDINGS, Corpus

BATCH, LR, WARMUP = 128, 5e-4, 100
EMBEDDING_SCALE = 0.5


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric cross entropy of matching features (B, D)."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def train(
    model: open_clip.CustomTextCLIP,
    tokenizer: Tokenizer,
    features: tuple[Tensor, Tensor],
    corpus: Corpus,
    steps: int,
    seed: int,
    log: Callable[[str], None] = print,
) -> None:
    """Train `model.text`, `model.visual.head` and the scale in place, on the trunk's two features (N, width) per
    image."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    kinds = list(MODALITIES)
    learned = [*model.text.parameters(), *model.visual.head.parameters(), model.logit_scale]
    matrices, others = [p for p in learned if p.ndim > 1], [p for p in learned if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0}], LR
    )
    model.eval()  # without dropout
    losses = []
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, step / WARMUP) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
        rows = rng.integers(len(corpus.images), size=BATCH)
        texts = [caption(rng, FINDINGS[corpus.finding[row]], kinds[corpus.modality[row]]) for row in rows]
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch(texts)])
        text, scale = model.encode_text(ids), model.logit_scale.exp()
        parts = (contrastive_loss(model.visual.head(part[rows]), text, scale) for part in features)
        loss = sum(parts, start=torch.zeros(())) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
        if step % 100 == 0:
            log(f"text tower, step {step}: loss {np.mean(losses[-100:]):.3f}, scale {model.logit_scale.exp():.1f}")
    scale_embeddings(model.text.transformer.embeddings, EMBEDDING_SCALE)


@torch.no_grad()
def scale_embeddings(embeddings: nn.Module, factor: float) -> None:
    """Scale the embeddings that BERT adds and then normalises: outputs stay, but contexts learn 1 / factor^2 faster.

    At the published learning rates a context moves little in the few steps that a small data set allows.
    """
    for part in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        getattr(embeddings, part).weight.mul_(factor)
