"""Interpreting a learned context: the words of the vocabulary nearest to its vectors."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ogkd.core import UserError, find_checkpoint, models_in
from ogkd.core.torchtools import load_checkpoint
from ogkd.models import FrozenCLIP
from ogkd.runs.learned_classes import learned_classes
from ogkd.runs.records import CONFIG, run_config
from ogkd.tuning.method import PROMPT_LEARNER


def learned_contexts(run: Path, epoch: int | None = None) -> Tensor:
    """The context vectors that a run learned, (n_ctx, width), or (C, n_ctx, width) where they are class-specific.

    Raises:
        UserError: there is no checkpoint, or the method does not learn context vectors.
    """
    folders = models_in(run)
    if not folders:
        raise UserError(f"There is no checkpoint in {run}: give the folder of a run that has trained.")
    for folder in folders:
        state = load_checkpoint(str(find_checkpoint(folder, epoch)))["state_dict"]
        for name in ("ctx", f"{PROMPT_LEARNER}ctx"):
            if name in state:
                return state[name].float()
    learned = ", ".join(folder.name for folder in folders)
    raise UserError(
        f"The run {run} learned no context vectors but {learned}: give a run that learned some in its texts, as CoOp's."
    )


def backbone_of(run: Path) -> str:
    """The backbone in a run's configuration; "" if the folder has no configuration."""
    return run_config(run)["MODEL"]["BACKBONE"]["NAME"] if (run / CONFIG).is_file() else ""


def class_names_of(run: Path, number: int) -> list[str]:
    """The names of a run's classes; numbers if they are not known."""
    return [*learned_classes(run)][:number] or [f"class {label}" for label in range(number)]


def nearest_words(
    vectors: Tensor, model: FrozenCLIP, number: int, distance: str = "euclidean"
) -> list[list[tuple[str, float]]]:
    """The `number` words nearest to each of N vectors (N, width), nearest first, with their distances.

    Cosine distance is 1 - cos.
    """
    vocabulary = model.vocabulary()
    words, table = [*vocabulary.values()], model.embed(torch.tensor([[*vocabulary]]))[0].cpu()
    if distance == "cosine":
        distances = 1 - F.normalize(vectors, dim=-1) @ F.normalize(table, dim=-1).t()
    else:  # computing it by a matrix product would lose small distances to rounding
        distances = torch.cdist(vectors, table, compute_mode="donot_use_mm_for_euclid_dist")
    near, places = distances.topk(min(number, len(words)), dim=-1, largest=False)
    return [
        [(words[place], value) for place, value in zip(*row, strict=True)]
        for row in zip(places.tolist(), near.tolist(), strict=True)
    ]
