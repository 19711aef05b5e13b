"""A frozen backbone with its image preparation: turns images into features, as training does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from yacs.config import CfgNode

from dassl.data.transforms import build_transform
from ogkd.core.dicom import MIDDLE
from ogkd.core.images import read_image
from ogkd.core.rgb import to_rgb
from ogkd.features.encode import encode_images
from ogkd.features.precision import BF16, FP32, at_precision, has_bf16
from ogkd.predict.trained import TrainedPrompt
from ogkd.tuning.backbone import load_backbone

IMAGES_AT_ONCE = {"cuda": 64}
IMAGES_AT_ONCE_ON_CPU = 8  # more would delay the first answer without making the tower faster

OneImage = str | Path | Image.Image


class Encoder:
    """The frozen model of a configuration, on its device and in its precision, with the preparation of test images.

    prompt: what was trained with the model; the weights must be those that it was trained with.

    Raises UserError if they are not, or if the weights are missing or corrupt.
    """

    def __init__(self, cfg: CfgNode, prompt: TrainedPrompt | None = None) -> None:
        if prompt is not None:
            prompt.check_backbone(cfg.MODEL.BACKBONE.NAME)
        self.frame = cfg.INPUT.FRAME
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        model = load_backbone(cfg.MODEL.BACKBONE.NAME, str(self.device))
        if prompt is not None:
            prompt.check_weights(model)
        self.transform: Any = build_transform(cfg, is_train=False)
        self.model = at_precision(model, _precision(cfg.FEATURES.PRECISION, self.device))

    @property
    def images_at_once(self) -> int:
        """The default number of images per pass."""
        return IMAGES_AT_ONCE.get(self.device.type, IMAGES_AT_ONCE_ON_CPU)

    def view(self, image: Image.Image) -> Image.Image:
        """The image as the model sees it: resized and cropped."""
        for step in self.transform.transforms[:2]:
            image = step(image)
        return image

    def pixels(self, images: Sequence[OneImage]) -> torch.Tensor:
        """The model's input (B, 3, H, W) of images or image files.

        Raises UserError for a file that cannot be read.
        """
        return torch.stack([self.transform(opened(image, self.frame)) for image in images])

    def pixels_of_views(self, views: Sequence[Image.Image]) -> torch.Tensor:
        """The model's input (B, 3, H, W) of images that `view` has resized and cropped."""

        def finished(image: Any) -> torch.Tensor:
            for step in self.transform.transforms[2:]:
                image = step(image)
            return image

        return torch.stack(list(map(finished, views)))

    def features(self, images: Sequence[OneImage], batch: int = 0) -> np.ndarray:
        """Normalised features (N, D) float32 of images or image files by the frozen model, whatever a method adds to
        it."""
        size = batch or self.images_at_once
        parts = [np.empty((0, self.model.embed_dim), dtype=np.float32)]
        for start in range(0, len(images), size):
            with torch.inference_mode():
                tokens = encode_images(self.model, self.pixels(images[start : start + size])).global_token
            parts.append(tokens.float().cpu().numpy())
        return np.concatenate(parts)


def _precision(precision: str, device: torch.device) -> str:
    """FEATURES.PRECISION of the run, or fp32 on a device without bf16."""
    if precision == BF16 and not has_bf16(device):
        print("Note: the prompt was trained in bf16, which this device lacks: fp32 changes probabilities slightly.")
        return FP32
    return precision


def opened(image: OneImage, frame: int = MIDDLE) -> Image.Image:
    """An image, or the image in a file, as 8-bit RGB."""
    return to_rgb(image) if isinstance(image, Image.Image) else read_image(image, frame)
