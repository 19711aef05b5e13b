"""A trained prompt ready to classify: turns images into logits with its method's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from yacs.config import CfgNode

from dassl.data.transforms import build_transform
from ogkd.core import UserError
from ogkd.core.dicom import MIDDLE
from ogkd.core.images import read_image
from ogkd.core.rgb import to_rgb
from ogkd.features.precision import BF16, FP32, at_precision, has_bf16
from ogkd.models import FrozenCLIP, available_models
from ogkd.predict.trained import TrainedPrompt
from ogkd.runs.config import names_novel_classes
from ogkd.runs.registry import method_class
from ogkd.tuning.backbone import load_backbone
from ogkd.tuning.method import Method
from ogkd.tuning.teacher import sentences_of

IMAGES_AT_ONCE = {"cuda": 64}
IMAGES_AT_ONCE_ON_CPU = 8  # more would delay the first answer without making the tower faster


class Answers(NamedTuple):
    """Logits (B, C), on request the logits (B, P, C) of each patch, and features (B, D)."""

    logits: np.ndarray
    patch_logits: np.ndarray | None
    features: np.ndarray

    def of(self, row: int) -> Answers:
        """Those of one image."""
        one = slice(row, row + 1)
        patches = self.patch_logits
        return Answers(self.logits[one], None if patches is None else patches[one], self.features[one])


class Predictor:
    """Classifies images with a trained prompt. It builds no data set and stores nothing about an image.

    classes: class names to use instead of those trained on, if the method can.
    backbone: a name or folder to use instead of the recorded one, if the weights are elsewhere.

    Raises UserError if the method cannot classify these classes, or the backbone's weights are not those that the
    prompt was trained with.
    """

    def __init__(self, prompt: TrainedPrompt, classes: Sequence[str] | None = None, backbone: str = "") -> None:
        self.prompt = prompt
        cfg = prompt.configuration(backbone)
        if classes is not None and not names_novel_classes(cfg):
            raise UserError(
                f"What {prompt.method} learned in {prompt.origin} applies only to its classes "
                f"({', '.join(prompt.classnames)}): leave out --classes."
            )
        self.frame = cfg.INPUT.FRAME
        self._check_backbone(cfg.MODEL.BACKBONE.NAME)
        self.classnames = prompt.classnames if classes is None else tuple(classes)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        model = load_backbone(cfg.MODEL.BACKBONE.NAME, str(self.device))
        self._check_weights(model)
        self.transform: Any = build_transform(cfg, is_train=False)
        self.method = self._method(cfg, at_precision(model, _precision(cfg.FEATURES.PRECISION, self.device)))
        self.method.eval()
        with torch.inference_mode():
            self._classify = self.method.classifier()

    def _method(self, cfg: CfgNode, model: FrozenCLIP) -> Method:
        """The method with what it learned."""
        prompt, kind = self.prompt, method_class(self.prompt.method)
        options = cfg.TRAINER[prompt.method.upper()]
        source = SimpleNamespace(sentences=prompt.sentences, prompts_name=prompt.prompts_name)
        method: Method = kind(
            options, model, self.classnames, lambda names: sentences_of(source, names, options, prompt.prompts_name)
        )
        if method.state_dict():
            if kind.folder not in prompt.learned:
                raise UserError(
                    f"{prompt.origin} has no learned parameters '{kind.folder}' of {prompt.method}: train it first."
                )
            method.load_learned(prompt.learned[kind.folder], prompt.origin)
        return method

    def _check_backbone(self, name: str) -> None:
        if name not in available_models() and not name.startswith("hf-hub:") and not Path(name).is_dir():
            raise UserError(
                f"The prompt in {self.prompt.origin} was trained with the model folder {self.prompt.backbone}, but "
                f"{name} does not exist: give its location with --backbone FOLDER."
            )

    def _check_weights(self, model: FrozenCLIP) -> None:
        prompt = self.prompt
        if model.fingerprint != prompt.fingerprint:
            raise UserError(
                f"The prompt in {prompt.origin} was trained with weights of {prompt.backbone} with the fingerprint "
                f"{prompt.fingerprint[:12]}, but those of {model.name} here have {model.fingerprint[:12]}: give the "
                "model that it was trained with by --backbone NAME_OR_FOLDER."
            )

    @property
    def images_at_once(self) -> int:
        """The default number of images per pass."""
        return IMAGES_AT_ONCE.get(self.device.type, IMAGES_AT_ONCE_ON_CPU)

    @cached_property
    def _classify_patches(self):
        with torch.inference_mode():
            classify = self.method.patch_classifier()
        if classify is None:
            raise UserError(
                f"{self.prompt.method} does not compare images with text features, so patches have no evidence "
                "to draw: leave out --heatmaps."
            )
        return classify

    def require_patches(self) -> None:
        """Raise UserError for a method whose classifier does not apply to patches."""
        _ = self._classify_patches

    def view(self, image: Image.Image) -> Image.Image:
        """The image as the model sees it: resized and cropped."""
        for step in self.transform.transforms[:2]:
            image = step(image)
        return image

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image], patches: bool = False) -> Answers:
        """The answers for a batch of RGB images, as returned by `read_image`."""
        batch = torch.stack([self.transform(image) for image in images])
        features = self.method.encode(batch, patches)
        logits = self._classify(features.global_token).float().cpu().numpy()
        of_patches = self._classify_patches(features).float().cpu().numpy() if patches else None
        return Answers(logits, of_patches, features.global_token.float().cpu().numpy())

    def logits(self, images: Sequence[str | Path | Image.Image], batch: int = 0) -> np.ndarray:
        """Logits (N, C) of images or image files.

        Raises UserError for a file that cannot be read.
        """
        size = batch or self.images_at_once
        pieces = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self([opened(image, self.frame) for image in piece]).logits for piece in pieces])


def _precision(precision: str, device: torch.device) -> str:
    """FEATURES.PRECISION of the run, or fp32 on a device without bf16."""
    if precision == BF16 and not has_bf16(device):
        print("Note: the prompt was trained in bf16, which this device lacks: fp32 changes probabilities slightly.")
        return FP32
    return precision


def opened(image: str | Path | Image.Image, frame: int = MIDDLE) -> Image.Image:
    """An image, or the image in a file, as 8-bit RGB."""
    return to_rgb(image) if isinstance(image, Image.Image) else read_image(image, frame)


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of logits (N, C) divided by a temperature, in double precision."""
    return softmax(logits.astype(np.float64) / temperature, axis=1)
