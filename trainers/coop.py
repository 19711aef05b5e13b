"""CoOp: learn the context of a prompt by cross entropy (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from ogkd.models import ImageFeatures
from ogkd.tuning.prompt_tuner import PromptTuner


@TRAINER_REGISTRY.register()
class CoOp(PromptTuner):
    title, paper, row = "CoOp", "2109.01134", 80

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.scale * features.global_token @ self.text_features().t()
        return {"ce": F.cross_entropy(logits, label)}, logits
