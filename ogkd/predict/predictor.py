"""A trained prompt ready to classify: turns images into logits with its method's classifier."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.models import FrozenCLIP
from ogkd.predict.encoder import Encoder, OneImage
from ogkd.predict.trained import TrainedPrompt
from ogkd.runs.config import names_novel_classes
from ogkd.runs.registry import method_class
from ogkd.tuning.method import Method
from ogkd.tuning.teacher import sentences_of


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


class Predictor(Encoder):
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
        super().__init__(cfg, prompt)
        self.classnames = prompt.classnames if classes is None else tuple(classes)
        self.method = self._method(cfg, self.model)
        self.method.eval()
        with torch.inference_mode():
            self._classify = self.method.classifier()

    def _method(self, cfg: CfgNode, model: FrozenCLIP) -> Method:
        """The method with what it learned."""
        prompt, kind = self.prompt, method_class(self.prompt.method)
        options = cfg.TRAINER[prompt.method.upper()]
        source = SimpleNamespace(sentences=prompt.sentences, prompts_name=prompt.prompts_name)
        method: Method = kind(
            options, model, self.classnames,
            lambda names: sentences_of(source, names, options, prompt.prompts_name, prompt.method),
        )  # fmt: skip
        if method.state_dict():
            if kind.folder not in prompt.learned:
                raise UserError(
                    f"{prompt.origin} has no learned parameters '{kind.folder}' of {prompt.method}: train it first."
                )
            method.load_learned(prompt.learned[kind.folder], prompt.origin)
        return method

    @cached_property
    def _classify_patches(self):
        with torch.inference_mode():
            classify = self.method.patch_classifier()
        model = self.method.clip_model
        if not model.has_patches:
            raise UserError(
                f"{model.name} has no patch tokens in the space of texts, so there are no heat maps: leave out "
                "--heatmaps."
            )
        if classify is None:
            raise UserError(
                f"{self.prompt.method} does not compare images with text features, so patches have no evidence "
                "to draw: leave out --heatmaps."
            )
        return classify

    def require_patches(self) -> None:
        """Raise UserError for a method whose classifier does not apply to patches."""
        _ = self._classify_patches

    @torch.inference_mode()
    def __call__(self, images: Sequence[OneImage], patches: bool = False) -> Answers:
        """The answers for a batch of images or image files."""
        features = self.method.encode(self.pixels(images), patches)
        logits = self._classify(features.global_token).float().cpu().numpy()
        of_patches = self._classify_patches(features).float().cpu().numpy() if patches else None
        return Answers(logits, of_patches, features.global_token.float().cpu().numpy())

    @torch.inference_mode()
    def of_views(self, views: Sequence[Image.Image]) -> np.ndarray:
        """Logits (B, C) of a batch of images that `view` has resized and cropped."""
        token = self.method.encode(self.pixels_of_views(views)).global_token
        return self._classify(token).float().cpu().numpy()

    def logits(self, images: Sequence[OneImage], batch: int = 0) -> np.ndarray:
        """Logits (N, C) of images or image files.

        Raises UserError for a file that cannot be read.
        """
        size = batch or self.images_at_once
        pieces = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self(piece).logits for piece in pieces])


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of logits (N, C) divided by a temperature, in double precision."""
    return softmax(logits.astype(np.float64) / temperature, axis=1)
