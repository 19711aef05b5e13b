"""Image towers behind one call: tower(images, patches, deep_prompts) -> ImageFeatures, with `width` and `layers`."""

from __future__ import annotations

from torch import Tensor, nn

from . import deep_prompts
from .errors import ModelError
from .interface import DeepPrompts, ImageFeatures


class OpenClipViT(nn.Module):
    """A ViT as open_clip wraps it, from timm (open_clip.TimmModel) or its own (open_clip's VisionTransformer).

    Global and patch tokens go through the trunk's final norm and the same projection.
    """

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
                f"The image tower is a {type(trunk or visual).__name__}, which is not supported: take a "
                "checkpoint with a ViT."
            )
        self.layers = len(self._layers)

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
