"""OGKD: Omni-Geometry Knowledge Distillation (arXiv 2606.04922).

The teacher's log-probabilities are diffused along a graph of the classes. The student, four context vectors, is
distilled from them on the global image token (GAD) and on the patches most attentive to the true class (LGD).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from ogkd.classes import TEXT, class_graph_matrix, find_graph, graph_file
from ogkd.models import ImageFeatures
from ogkd.tuning.options import require, require_choice
from ogkd.tuning.prompt_tuner import PromptTuner
from ogkd.tuning.teacher import Teacher, check_teacher_options, teacher_options

SMOOTHINGS = ("log", "prob")
HELD_OUT_WEIGHT = 0.1


def class_graph(q: Tensor, alpha: float) -> Tensor:
    """Row-stochastic weights W (C, C) = softmax over rows of alpha * cos(q, q), of prototypes q (C, D)."""
    q = F.normalize(q, dim=-1)
    return (alpha * q @ q.t()).softmax(-1)


def fold_held_out(graph: Tensor, base: int) -> Tensor:
    """Fold a graph over all classes into a graph over the first `base` classes, those trained on:
    W_bb + 0.1 W_bn W_nb."""
    return graph[:base, :base] + HELD_OUT_WEIGHT * graph[:base, base:] @ graph[base:, :base]


def smooth(log_prob: Tensor, graph: Tensor, gamma: float, smoothing: str = "log") -> Tensor:
    """Diffuse log-probabilities (..., C) along the class graph; column c of W (C, C) is what flows into class c.

    "log": (1 - gamma) q + gamma q W on q = log p, as in the published code (not renormalised).
    "prob": the logarithm of (1 - gamma) p + gamma p W, as in the paper's figure (still a distribution).
    """
    if smoothing == "log":
        return (1 - gamma) * log_prob + gamma * log_prob @ graph
    prob = log_prob.exp()
    mixed = (1 - gamma) * prob + gamma * prob @ graph
    return mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()


def gad_loss(student: Tensor, teacher: Tensor, graph: Tensor, gamma: float, smoothing: str = "log") -> Tensor:
    """Global alignment: KL of the student's logits (B, C) to the smoothed teacher's (B, C), over B * C."""
    r = smooth(teacher.log_softmax(-1), graph, gamma, smoothing)
    return (r.exp() * (r - student.log_softmax(-1))).sum() / student.numel()


def attentive_patches(logits: Tensor, label: Tensor, ratio: float) -> Tensor:
    """Indices (B, k) of the k = max(1, round(P * ratio)) patches whose logit (B, P, C) of the true class is largest
    in absolute value."""
    at_label = logits.gather(-1, label[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(-1)
    count = max(1, round(logits.shape[1] * ratio))
    return at_label.abs().topk(count, dim=1).indices


def lgd_loss(
    student: Tensor, teacher: Tensor, label: Tensor, graph: Tensor, gamma: float, smoothing: str = "log"
) -> Tensor:
    """Local alignment on k patches per image: student and teacher logits (B, k, C), compared at the true class only."""
    index = label[:, None, None].expand(-1, student.shape[1], 1)
    r = smooth(teacher.log_softmax(-1), graph, gamma, smoothing).gather(-1, index)
    p = student.log_softmax(-1).gather(-1, index)
    return (r.exp() * (r - p)).sum() / r.numel()


@TRAINER_REGISTRY.register()
class OGKD(PromptTuner):
    """Total loss: CE + SCCM + GAD + LGD; no gradient flows through the teacher or the graph."""

    title, paper, row = "OGKD", "2606.04922", 140
    uses_patches = True

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {
            **super().default_options(),
            **teacher_options(),
            "TEXT_DROPOUT": 0.1,  # as in the published runs
            "GRAPH": TEXT,  # how classes relate: text, geometry[:PATH], file:PATH, file+:PATH, identity, uniform
            "ALPHA": 1.0,  # sharpness of the class graph
            "TAU": 1.5,  # leave out prompts further than this many standard deviations from the rest
            "LAMBDA_SCCM": 0.5,  # weight of the consistency with the mean prototypes
            "LAMBDA_GAD": 1.0,  # weight of the global distillation
            "LAMBDA_LGD": 0.1,  # weight of the distillation on patches
            "GAMMA": 0.5,  # share of the teacher's log-probabilities that is diffused, 0..1
            "TOP_K_RATIO": 0.5,  # share of the patches that LGD uses, 0..1
            "SMOOTHING": "log",  # what is diffused: log-probabilities (log) or probabilities (prob)
            "FOLD_HELD_OUT": False,  # fold the held-out classes into the graph
        }

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        super().check_options(options)
        check_teacher_options(options)
        require(options, "ALPHA", "LAMBDA_SCCM", "LAMBDA_GAD", "LAMBDA_LGD", least=0)
        require(options, "TAU", "TOP_K_RATIO", above=0)
        require(options, "GAMMA", "TOP_K_RATIO", least=0, most=1)
        if options.GRAPH != TEXT:
            find_graph(options.GRAPH)
        require_choice(options, "SMOOTHING", *SMOOTHINGS)

    @classmethod
    def fingerprints(cls, cfg: CfgNode) -> dict[str, str]:
        path = graph_file(cfg.TRAINER[cls.__name__.upper()].GRAPH, _dataset_name(cfg))
        return {"graph": hashlib.sha256(path.read_bytes()).hexdigest()} if path else {}

    def before_train(self) -> None:
        self.teacher = Teacher.of(self, self.classnames)
        self.prototypes = self.teacher.prototypes
        self.graph = self._graph()
        super().before_train()

    def _graph(self) -> Tensor:
        """W (C, C); with FOLD_HELD_OUT, the graph over all classes (held-out ones last), folded by `fold_held_out`."""
        kind, alpha = self.options.GRAPH, self.options.ALPHA
        everything = getattr(self.dm.dataset, "all_classnames", self.classnames)
        held_out = [name for name in everything if name not in self.classnames]
        held_out = held_out if self.options.FOLD_HELD_OUT else []
        if kind == TEXT:
            more = [Teacher.of(self, held_out).prototypes] if held_out else []
            graph = class_graph(torch.cat([self.prototypes, *more]), alpha)
        else:
            matrix = class_graph_matrix(kind, [*self.classnames, *held_out], _dataset_name(self.cfg), alpha)
            graph = torch.from_numpy(matrix).to(self.prototypes)
        return fold_held_out(graph, len(self.classnames)) if held_out else graph

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, scale = self.options, self.scale
        image, patches = features.global_token, cast(Tensor, features.patch_tokens)
        text = self.text_features()
        logits = scale * image @ text.t()

        selected = self.teacher.selected_prototypes(image, scale, options.TAU)
        teacher = scale * image @ selected.t()
        patch_teacher = scale * patches @ selected.t()
        kept = attentive_patches(patch_teacher, label, options.TOP_K_RATIO)[..., None]
        patch_teacher = patch_teacher.gather(1, kept.expand(-1, -1, patch_teacher.shape[-1]))
        patch_logits = scale * patches.gather(1, kept.expand(-1, -1, patches.shape[-1])) @ text.t()

        diffusion = (self.graph, options.GAMMA, options.SMOOTHING)
        terms = {
            "ce": F.cross_entropy(logits, label),
            "sccm": options.LAMBDA_SCCM * F.mse_loss(text, self.prototypes),
            "gad": options.LAMBDA_GAD * gad_loss(logits, teacher, *diffusion),
            "lgd": options.LAMBDA_LGD * lgd_loss(patch_logits, patch_teacher, label, *diffusion),
        }
        return terms, logits


def _dataset_name(cfg: CfgNode) -> str:
    """The name of the data set's geometry file."""
    return Path(cfg.DATASET.FOLDER).name or cfg.DATASET.NAME
