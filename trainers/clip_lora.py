"""CLIP-LoRA: low-rank paths beside the attention of both towers (Zanella and Ben Ayed, CVPR Workshops 2024,
arXiv 2405.18541)."""

from __future__ import annotations

import math

from ogkd.tuning.edits import Edits, LowRank, attention_layers
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.tower_method import EditMethod

MOST_SHOTS = 16  # of the paper


@register
class CLIPLoRA(EditMethod):
    """Cross entropy. Each query, key and value of every layer gets ALPHA / sqrt(RANK) B A dropout(x) beside W x.

    The paths are never merged into the weights, so nothing is rounded. A training has STEPS steps for each training
    image of a class, in whole epochs, but at most OPTIM.MAX_EPOCH epochs; with all images (NUM_SHOTS -1) no more steps
    than with 16 shots, the most in the paper.
    """

    title, paper, row = "CLIP-LoRA", "2405.18541", 77
    options = EditMethod.options | Options(
        RANK=Option(2, "rank of the paths", least=1),
        ALPHA=Option(1.0, "weight of the paths, times the square root of their rank", above=0),
        DROPOUT=Option(0.25, "dropout rate of the paths' input in training", least=0, below=1),
        STEPS=Option(500, "steps of the training for each training image of a class; 0: OPTIM.MAX_EPOCH", least=0),
    )

    def make_edits(self) -> Edits:
        rank, dropout = self.options.RANK, self.options.DROPOUT
        scale = self.options.ALPHA / math.sqrt(rank)
        return Edits(
            self.clip_model,
            lambda weight, parts: LowRank(weight, rank, scale, dropout, parts),
            attention_layers(self.clip_model),
        )

    def prepare(self, task: Task) -> None:
        self.shots = len(task.train_labels) / len(self.classnames)
        if task.cfg.DATASET.NUM_SHOTS < 0:
            self.shots = min(self.shots, MOST_SHOTS)

    def epochs(self, most: int, steps: int) -> int:
        wanted = math.ceil(self.options.STEPS * self.shots / steps)
        return min(most, wanted) if wanted else most
