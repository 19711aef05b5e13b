"""Text towers with one signature: tower(embeddings, mask, deep prompts, their positions) -> (N, D).

Each also has `embed`, `width`, `layers` and `dropout`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ogkd.models import deep_prompts
from ogkd.models.errors import ModelError
from ogkd.models.interface import DeepPrompts, Foreign
from ogkd.models.text_dropout import TextDropout


class TransformersText(nn.Module):
    """A BERT-like encoder of transformers with a pooler and a projection (open_clip.HFTextEncoder, PMC-CLIP's).

    Attention ignores padding, so a batch cut to its longest text gives the same features as a padded one.
    """

    transformer: Foreign
    pooler: Foreign
    projection: Foreign

    def __init__(self, transformer: Foreign, pooler: Foreign, projection: Foreign) -> None:
        super().__init__()
        self.transformer, self.pooler, self.projection = transformer, pooler, projection
        self._layers = transformer.encoder.layer
        self.layers = len(self._layers)
        self.width = transformer.get_input_embeddings().embedding_dim
        self.dropout = TextDropout(transformer)

    def embed(self, ids: Tensor) -> Tensor:
        return self.transformer.get_input_embeddings()(ids)

    def forward(
        self, embeddings: Tensor, mask: Tensor, prompts: DeepPrompts | None, positions: Tensor | None = None
    ) -> Tensor:
        attention_mask = mask.long()
        with deep_prompts.in_text(self._layers, prompts, positions):
            out = self.transformer(inputs_embeds=embeddings, attention_mask=attention_mask)
        return self.projection(self.pooler(out, attention_mask))


def _at_end(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]


class NativeText(nn.Module):
    """CLIP's own causal text tower, as in open_clip: pooled at the end-of-text token, the last real one.

    The end-of-text token cannot see what follows it, so the causal mask is simply cut to the batch's length. `holder`
    is the module with token_embedding, positional_embedding, transformer, ln_final, text_projection and attn_mask.
    """

    attn_mask: Tensor

    def __init__(self, holder: Foreign) -> None:
        super().__init__()
        pooling = getattr(holder, "text_pool_type", None) or holder.pool_type
        if pooling not in ("argmax", "eos") or getattr(holder, "cls_emb", None) is not None:
            raise ModelError(f"Text pooling {pooling!r} is not supported: choose a model that pools at the text's end.")
        if holder.attn_mask is None:  # then the padding, which is cut off here, would change the features
            raise ModelError("Text without a causal mask is not supported: choose a model that has one.")
        self.pooling = pooling
        self.token_embedding = holder.token_embedding
        self.transformer = holder.transformer
        self.ln_final = holder.ln_final
        self.text_projection = holder.text_projection
        self.positional_embedding = holder.positional_embedding
        self.register_buffer("attn_mask", holder.attn_mask, persistent=False)
        self._layers = self.transformer.resblocks
        self.layers = len(self._layers)
        self.width = self.token_embedding.embedding_dim
        self.dropout = TextDropout()

    def embed(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids)

    def forward(
        self, embeddings: Tensor, mask: Tensor, prompts: DeepPrompts | None, positions: Tensor | None = None
    ) -> Tensor:
        length = embeddings.shape[1]
        causal = self.attn_mask[:length, :length]
        with deep_prompts.in_text(self._layers, prompts, positions):
            hidden = self.transformer(embeddings + self.positional_embedding[:length], attn_mask=causal)
        pooled = _at_end(self.ln_final(hidden), mask)
        if self.text_projection is None:
            return pooled
        if isinstance(self.text_projection, nn.Linear):
            return self.text_projection(pooled)
        return pooled @ self.text_projection


class TransformersCLIPText(nn.Module):
    """The text tower of transformers' CLIPModel, pooled at the last real token.

    Its forward takes only ids, so a hook on the embedding table replaces its output by the word embeddings.
    """

    text_model: Foreign
    projection: Foreign

    def __init__(self, text_model: Foreign, projection: Foreign) -> None:
        super().__init__()
        self.text_model, self.projection = text_model, projection
        self._layers = text_model.encoder.layers
        self.layers = len(self._layers)
        self.width = projection.in_features
        self.dropout = TextDropout(text_model if text_model.config.attention_dropout > 0 else None)

    @property
    def _table(self) -> nn.Embedding:
        return self.text_model.embeddings.token_embedding

    def embed(self, ids: Tensor) -> Tensor:
        return self._table(ids)

    def forward(
        self, embeddings: Tensor, mask: Tensor, prompts: DeepPrompts | None, positions: Tensor | None = None
    ) -> Tensor:
        ids = torch.zeros(mask.shape, dtype=torch.long, device=mask.device)
        handle = self._table.register_forward_hook(lambda _module, _args, _output: embeddings)
        try:
            with deep_prompts.in_text(self._layers, prompts, positions):
                out = self.text_model(input_ids=ids)
        finally:
            handle.remove()
        return self.projection(_at_end(out.last_hidden_state, mask))
