"""Image towers with one signature: tower(images, patches, deep_prompts) -> ImageFeatures, with `width` and `layers`."""

from __future__ import annotations

from torch import Tensor, nn

from ogkd.models import deep_prompts
from ogkd.models.errors import ModelError
from ogkd.models.interface import DeepPrompts, Foreign, ImageFeatures


def tower_of(visual: nn.Module) -> nn.Module:
    """The tower for open_clip's `visual`."""
    return OpenClipResNet(visual) if hasattr(visual, "attnpool") else OpenClipViT(visual)


class OpenClipViT(nn.Module):
    """A ViT from timm (wrapped by open_clip.TimmModel) or open_clip's own VisionTransformer.

    Global and patch tokens pass through the trunk's final norm and the same projection.
    """

    visual: Foreign

    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual
        trunk = getattr(visual, "trunk", None)
        if trunk is not None and hasattr(trunk, "blocks") and hasattr(trunk, "fc_norm"):
            self._layers, self.width = trunk.blocks, trunk.num_features
        elif trunk is None and getattr(visual, "transformer", None) is not None and visual.attn_pool is None:
            self._layers, self.width = visual.transformer.resblocks, visual.transformer.width
        else:
            raise ModelError(
                f"The image tower is a {type(trunk or visual).__name__}, which is not supported: choose a "
                "checkpoint with a ViT."
            )
        self.layers = len(self._layers)

    def projections(self) -> list[tuple[nn.Module, str]]:
        """The modules, by owner and name, that project tokens into the space shared with texts."""
        if hasattr(self.visual, "trunk"):
            return [(self.visual.trunk, "head"), (self.visual, "head")]
        return [] if self.visual.proj is None else [(self.visual, "proj")]

    def _project(self, tokens: Tensor) -> Tensor:
        visual = self.visual
        if hasattr(visual, "trunk"):
            trunk = visual.trunk
            return visual.head(trunk.head(trunk.fc_norm(tokens)))
        return tokens if visual.proj is None else tokens @ visual.proj

    def forward(self, images: Tensor, patches: bool, prompts: DeepPrompts | None) -> ImageFeatures:
        with deep_prompts.in_image(self._layers, prompts):
            if not patches:
                return ImageFeatures(self.visual(images), None)
            out = self.visual.forward_intermediates(images, indices=1, normalize_intermediates=True, output_fmt="NLC")
        return ImageFeatures(out["image_features"], self._project(out["image_intermediates"][-1]))


class OpenClipResNet(nn.Module):
    """CLIP's modified ResNet, as in open_clip and PMC-CLIP.

    The global token is the output of its attention pool. A patch token is one position of the last feature map after
    the pool's value and output projections: the pool's output if it attended to that position alone (as in MaskCLIP,
    arXiv 2112.01071).
    """

    layers = 0
    visual: Foreign

    def __init__(self, visual: Foreign) -> None:
        super().__init__()
        self.visual = visual
        self.width = visual.attnpool.v_proj.in_features

    def forward(self, images: Tensor, patches: bool, prompts: DeepPrompts | None) -> ImageFeatures:
        if not patches:
            return ImageFeatures(self.visual(images), None)
        out = self.visual.forward_intermediates(images, indices=1)
        pool = self.visual.attnpool
        positions = out["image_intermediates"][-1].flatten(2).transpose(1, 2) + pool.positional_embedding[1:]
        return ImageFeatures(out["image_features"], pool.c_proj(pool.v_proj(positions)))


class TransformersViT(nn.Module):
    """The image tower of transformers' CLIPModel; patch tokens get the same final norm as the class token."""

    vision_model: Foreign
    projection: Foreign

    def __init__(self, vision_model: Foreign, projection: Foreign) -> None:
        super().__init__()
        self.vision_model, self.projection = vision_model, projection
        self._layers = vision_model.encoder.layers
        self.layers = len(self._layers)
        self.width = projection.in_features

    def projections(self) -> list[tuple[nn.Module, str]]:
        return [(self, "projection")]

    def forward(self, images: Tensor, patches: bool, prompts: DeepPrompts | None) -> ImageFeatures:
        with deep_prompts.in_image(self._layers, prompts):
            out = self.vision_model(pixel_values=images)
        global_token = self.projection(out.pooler_output)
        if not patches:
            return ImageFeatures(global_token, None)
        tokens = self.vision_model.post_layernorm(out.last_hidden_state[:, 1:])
        return ImageFeatures(global_token, self.projection(tokens))
