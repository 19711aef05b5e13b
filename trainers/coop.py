"""CoOp: learn the context of a prompt by cross entropy (Zhou et al., IJCV 2022, arXiv 2109.01134)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTuner
from trainers.prompt_learner import prompt_config


@TRAINER_REGISTRY.register()
class CoOp(PromptTuner):
    @staticmethod
    def extend_config(cfg: CfgNode) -> None:
        cfg.TRAINER.COOP = prompt_config()

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.scale * features.global_token @ self.text_features().t()
        return {"ce": F.cross_entropy(logits, label)}, logits
