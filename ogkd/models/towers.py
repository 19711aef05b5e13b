"""Towers of several libraries behind two signatures.

An image tower is `tower(images, patches, prompts, projected) -> ImageFeatures`, a text tower `tower(embeddings, mask,
deep, positions) -> pooled texts (N, width)`, not projected, with `embed`, `dropout` and `pooled_at(mask)`, where the
tokens stand that it pools, (N,). Both have `blocks`, the layers that take vectors, their `width` and the `projection`
into the space that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ogkd.core.errors import first_line, is_out_of_memory
from ogkd.models import hooks
from ogkd.models.errors import ModelError
from ogkd.models.hooks import Deep, TextDropout
from ogkd.models.interface import ImageFeatures


def _projection(matrix: Tensor | nn.Module | None) -> nn.Module:
    """The layer tokens -> tokens @ matrix (in, out); a layer as it is."""
    if not isinstance(matrix, Tensor):
        return matrix or nn.Identity()
    layer = nn.Linear(matrix.shape[0], matrix.shape[1], bias=False, device="meta")
    layer.weight = nn.Parameter(matrix.detach().t(), requires_grad=False)
    return layer


def _features(whole: Tensor, patches: Tensor | None, projection: nn.Module | None) -> ImageFeatures:
    if projection is None:
        return ImageFeatures(whole, patches)
    return ImageFeatures(projection(whole), None if patches is None else projection(patches))


def _pool_of_each(pool: Callable[[Tensor], Tensor], tokens: Tensor) -> Tensor:
    """What an attention pool gives for each token (B, P, width) if it attended to that token alone: its value and
    output projections and what follows them. Patch tokens are thus in the space of texts, as in OpenClipResNet; this is
    ours, not part of the pretrained models."""
    return pool(tokens.flatten(0, 1)[:, None]).unflatten(0, tokens.shape[:2])


def image_tower_of(visual: nn.Module) -> nn.Module:
    """The tower for open_clip's `visual`."""
    if hasattr(visual, "attnpool"):
        return OpenClipResNet(visual)
    trunk = getattr(visual, "trunk", None)
    is_vit = trunk is None or (hasattr(trunk, "blocks") and hasattr(trunk, "fc_norm"))
    return OpenClipViT(visual) if is_vit else OpenClipTrunk(visual)


class OpenClipViT(nn.Module):
    """A ViT from timm (wrapped by open_clip.TimmModel) or open_clip's own VisionTransformer.

    Global and patch tokens pass through the trunk's final norm and the same projection; with attention pooling (MAP, as
    in SigLIP), a patch token is as `_pool_of_each` says.
    """

    visual: Any

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual, trunk = visual, getattr(visual, "trunk", None)
        visual.output_tokens = False  # which CoCa's configurations set
        self.patch_norm: nn.Module = nn.Identity()
        norm = getattr(visual, "ln_pre", None) or getattr(trunk, "norm_pre", None)
        self.first_norm: nn.Module = norm or nn.Identity()
        self.projection: nn.Module
        self.pool = getattr(trunk, "attn_pool", None)
        if getattr(self.pool, "pos_embed", None) is not None:
            raise ModelError("Attention pooling with positions of its own is not supported: choose another checkpoint.")
        if trunk is not None:
            self.blocks, self.width, self.patch_norm = trunk.blocks, trunk.num_features, trunk.fc_norm
            self.projection = nn.Sequential(trunk.head, visual.head)
            trunk.head, visual.head = nn.Identity(), nn.Identity()
        elif getattr(visual, "transformer", None) is not None and visual.attn_pool is None:
            self.blocks, self.width = visual.transformer.resblocks, visual.transformer.width
            self.projection, visual.proj = _projection(visual.proj), None
        else:
            raise ModelError(
                f"The image tower, a {type(visual).__name__}, has attention pooling as CoCa's, which is not supported: "
                "choose a checkpoint with another ViT."
            )

    def forward(self, images: Tensor, patches: bool, prompts: Deep | None, projected: bool = True) -> ImageFeatures:
        with hooks.in_image(self.blocks, prompts):
            if not patches:
                return _features(self.visual(images), None, self.projection if projected else None)
            out = self.visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
        tokens = out["image_intermediates"][-1]
        tokens = self.patch_norm(tokens if self.pool is None else _pool_of_each(self.pool, tokens))
        return _features(out["image_features"], tokens, self.projection if projected else None)


class OpenClipTrunk(nn.Module):
    """Any other network of timm, such as ConvNeXt or Swin: an image has one token, and no patches in the space of
    texts, since what follows its pooling need not hold for a single position."""

    blocks = ()
    has_patches = False
    visual: Any

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual, self.projection = visual, nn.Identity()
        if not hasattr(visual.head, "pool"):  # which takes the whole feature map
            self.projection, visual.head = visual.head, nn.Identity()
        layers = [layer for layer in self.projection.modules() if isinstance(layer, nn.Linear)]
        self.width = layers[0].in_features if layers else visual.trunk.num_features

    def forward(self, images: Tensor, patches: bool, prompts: Deep | None, projected: bool = True) -> ImageFeatures:
        try:
            return _features(self.visual(images), None, self.projection if projected else None)
        except (RuntimeError, AssertionError) as error:  # timm asserts sizes
            if is_out_of_memory(error):
                raise
            raise ModelError(
                f"The image tower, timm's {type(self.visual.trunk).__name__}, fails on an image ({first_line(error)}): "
                "choose a model whose configuration has a pooling (timm_pool) and the right image_size."
            ) from error


class OpenClipResNet(nn.Module):
    """CLIP's modified ResNet, as in open_clip and PMC-CLIP.

    The global token is the output of its attention pool. A patch token is one position of the last feature map after
    the pool's value and output projections: the pool's output if it attended to that position alone (as in MaskCLIP,
    arXiv 2112.01071).
    """

    blocks = ()
    visual: Any

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual, self.projection = visual, visual.attnpool.c_proj
        self.width = self.projection.in_features

    def forward(self, images: Tensor, patches: bool, prompts: Deep | None, projected: bool = True) -> ImageFeatures:
        pool = self.visual.attnpool
        with nullcontext() if projected else _without_projection(pool):
            if not patches:
                return ImageFeatures(self.visual(images), None)
            out = self.visual.forward_intermediates(images, indices=1)
            positions = out["image_intermediates"][-1].flatten(2).transpose(1, 2) + pool.positional_embedding[1:]
            return ImageFeatures(out["image_features"], pool.c_proj(pool.v_proj(positions)))


@contextmanager
def _without_projection(pool: Any) -> Iterator[None]:
    """Inside the context, the last layer of an attention pool, which cannot be left out, changes nothing."""
    layer = pool.c_proj
    pool.c_proj = nn.Linear(layer.in_features, layer.in_features, device=layer.weight.device)
    try:
        with torch.no_grad():
            nn.init.eye_(pool.c_proj.weight)
            nn.init.zeros_(pool.c_proj.bias)
        yield
    finally:
        pool.c_proj = layer


class TransformersViT(nn.Module):
    """The image tower of transformers' CLIPModel; patch tokens get the same final norm as the class token."""

    vision_model: Any

    def __init__(self, vision_model: Any, projection: nn.Linear) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection
        self.first_norm = vision_model.pre_layrnorm
        self.blocks, self.width = vision_model.encoder.layers, projection.in_features

    def forward(self, images: Tensor, patches: bool, prompts: Deep | None, projected: bool = True) -> ImageFeatures:
        with hooks.in_image(self.blocks, prompts):
            out = self.vision_model(pixel_values=images)
        tokens = self.vision_model.post_layernorm(out.last_hidden_state[:, 1:]) if patches else None
        return _features(out.pooler_output, tokens, self.projection if projected else None)


class SiglipViT(nn.Module):
    """The image tower of transformers' SiglipModel, with attention pooling; for patch tokens, see `_pool_of_each`."""

    vision_model: Any

    def __init__(self, vision_model: Any) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, nn.Identity()
        self.first_norm = nn.Identity()
        self.blocks, self.width = vision_model.encoder.layers, vision_model.config.hidden_size

    def forward(self, images: Tensor, patches: bool, prompts: Deep | None, projected: bool = True) -> ImageFeatures:
        with hooks.in_image(self.blocks, prompts):
            out = self.vision_model(pixel_values=images)
        return ImageFeatures(
            out.pooler_output, _pool_of_each(self.vision_model.head, out.last_hidden_state) if patches else None
        )


class TransformersText(nn.Module):
    """A BERT-like encoder of transformers with a pooler and a projection (open_clip.HFTextEncoder, PMC-CLIP's).

    Attention ignores padding, so a batch cut to its longest text gives the same features as a padded one.
    """

    transformer: Any

    def __init__(self, transformer: Any, pooler: nn.Module, projection: nn.Module) -> None:
        super().__init__()
        self.transformer, self.pooler, self.projection = transformer, pooler, projection
        self.blocks, self.dropout = transformer.encoder.layer, TextDropout(transformer)
        self.width = transformer.get_input_embeddings().embedding_dim

    def embed(self, ids: Tensor) -> Tensor:
        return self.transformer.get_input_embeddings()(ids)

    def pooled_at(self, mask: Tensor) -> Tensor:
        return torch.zeros(len(mask), dtype=torch.long)

    def forward(self, embeddings: Tensor, mask: Tensor, deep: Deep | None, positions: Tensor | None = None) -> Tensor:
        attention_mask = mask.long()
        with hooks.in_text(self.blocks, deep, positions):
            out = self.transformer(inputs_embeds=embeddings, attention_mask=attention_mask)
        return self.pooler(out, attention_mask)


def tokens_at(hidden: Tensor, positions: Tensor) -> Tensor:
    """The token (N, width) of each text (N, L, width) at its position (N,)."""
    return hidden[torch.arange(len(hidden), device=hidden.device), positions.to(hidden.device)]


def _ends(mask: Tensor) -> Tensor:
    return mask.sum(dim=1) - 1


def _last(mask: Tensor) -> Tensor:
    return torch.full((len(mask),), -1)


def _padded(embeddings: Tensor, mask: Tensor, padding: Tensor, length: int) -> Tensor:
    """Sequences (N, length, width) in which all that is not text is the embedding of the padding token (width)."""
    rest = padding.expand(len(embeddings), length - embeddings.shape[1], -1)
    return torch.cat([torch.where(mask[..., None], embeddings, padding), rest], dim=1)


class NativeText(nn.Module):
    """CLIP's own text tower, as in open_clip.

    With a causal mask, it is pooled at the end-of-text token, the last real one, which cannot see what follows it: the
    mask is simply cut to the batch's length. A tower that is pooled at the `last` position (SigLIP's) sees `length`
    tokens, the text's and then `padding`. `holder` is the module with token_embedding, positional_embedding,
    transformer, ln_final, text_projection and attn_mask.
    """

    attn_mask: Tensor | None

    def __init__(self, holder: Any, padding: int | None = 0) -> None:
        super().__init__()
        embeds = getattr(holder, "cls_emb", None) is not None
        self.pooling = "embed_cls" if embeds else getattr(holder, "text_pool_type", None) or holder.pool_type
        if self.pooling not in ("argmax", "eos", "last"):
            raise ModelError(
                f"Text pooling {self.pooling!r} is not supported: choose a model that pools at the text's end."
            )
        self.padding, self.length = padding, holder.context_length
        if self.pooling == "last" and (padding is None or getattr(holder, "use_pad_mask", False)):
            raise ModelError("Text pooling 'last' needs a padding token and no mask of it: choose another model.")
        if holder.attn_mask is None and self.pooling != "last":  # the padding, which is cut off, changes the features
            raise ModelError("Text without a causal mask is not supported: choose a model that has one.")
        self.token_embedding, self.positional_embedding = holder.token_embedding, holder.positional_embedding
        self.transformer, self.ln_final = holder.transformer, holder.ln_final
        self.projection = _projection(holder.text_projection)
        self.register_buffer("attn_mask", holder.attn_mask, persistent=False)
        self.blocks, self.dropout = self.transformer.resblocks, TextDropout()
        self.width = self.token_embedding.embedding_dim

    def embed(self, ids: Tensor) -> Tensor:
        return self.token_embedding(ids)

    def pooled_at(self, mask: Tensor) -> Tensor:
        return _last(mask) if self.pooling == "last" else _ends(mask)

    def forward(self, embeddings: Tensor, mask: Tensor, deep: Deep | None, positions: Tensor | None = None) -> Tensor:
        if self.pooling == "last":
            embeddings = _padded(embeddings, mask, self.token_embedding.weight[self.padding], self.length)
        length = embeddings.shape[1]
        causal = None if self.attn_mask is None else self.attn_mask[:length, :length]
        with hooks.in_text(self.blocks, deep, positions):
            hidden = self.transformer(embeddings + self.positional_embedding[:length], attn_mask=causal)
        return tokens_at(self.ln_final(hidden), self.pooled_at(mask))


class TransformersCLIPText(nn.Module):
    """The text tower of transformers' CLIPModel, pooled at the last real token.

    Its forward takes only ids, so a hook on the embedding table replaces its output by the word embeddings.
    """

    text_model: Any

    def __init__(self, text_model: Any, projection: nn.Linear) -> None:
        super().__init__()
        self.text_model, self.projection = text_model, projection
        self.blocks, self.width = text_model.encoder.layers, projection.in_features
        self.dropout = TextDropout(text_model if text_model.config.attention_dropout > 0 else None)

    def embed(self, ids: Tensor) -> Tensor:
        return self.text_model.embeddings.token_embedding(ids)

    def pooled_at(self, mask: Tensor) -> Tensor:
        return _ends(mask)

    def forward(self, embeddings: Tensor, mask: Tensor, deep: Deep | None, positions: Tensor | None = None) -> Tensor:
        return tokens_at(self.hidden(embeddings, deep, positions), self.pooled_at(mask))

    def hidden(self, embeddings: Tensor, deep: Deep | None, positions: Tensor | None) -> Tensor:
        """The states (N, L, width) after the last norm."""
        ids = torch.zeros(embeddings.shape[:2], dtype=torch.long, device=embeddings.device)
        table = self.text_model.embeddings.token_embedding
        handle = table.register_forward_hook(lambda _module, _args, _output: embeddings)
        try:
            with hooks.in_text(self.blocks, deep, positions):
                return self.text_model(input_ids=ids).last_hidden_state
        finally:
            handle.remove()


class SiglipText(TransformersCLIPText):
    """The text tower of transformers' SiglipModel: pooled at the last of all its positions, which sees the padding."""

    def __init__(self, text_model: Any, padding: int) -> None:
        super().__init__(text_model, text_model.head)
        self.padding, self.length = padding, text_model.config.max_position_embeddings

    def pooled_at(self, mask: Tensor) -> Tensor:
        return _last(mask)

    def forward(self, embeddings: Tensor, mask: Tensor, deep: Deep | None, positions: Tensor | None = None) -> Tensor:
        padding = self.text_model.embeddings.token_embedding.weight[self.padding]
        return super().forward(_padded(embeddings, mask, padding, self.length), mask, deep, positions)
