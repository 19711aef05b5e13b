"""Distillation from a teacher: OGKD's two terms with its graph of the classes, which any prompt method can take, and
the plain divergence of logits."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.classes import TEXT, class_graph_matrix, find_graph, graph_file
from ogkd.models import ImageFeatures
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.teacher import TEACHER_OPTIONS

if TYPE_CHECKING:
    from ogkd.tuning.task import Task

SMOOTHINGS = ("log", "prob")
HELD_OUT_WEIGHT = 0.1

DISTILLATION_OPTIONS = TEACHER_OPTIONS | Options(
    GRAPH=Option(
        TEXT,
        "how classes relate: text, geometry[:PATH], file:PATH, file+:PATH, identity, uniform",
        check=lambda kind: kind == TEXT or find_graph(kind),
    ),
    ALPHA=Option(1.0, "sharpness of the class graph", least=0),
    TAU=Option(
        1.5, "leave out prompts further than this many standard deviations from the rest", above=0, tune=(1.0, 2.5)
    ),
    LAMBDA_GAD=Option(1.0, "weight of the global distillation", least=0, tune=(0.1, 25.0)),
    LAMBDA_LGD=Option(0.1, "weight of the distillation on patches", least=0, tune=(0.01, 25.0)),
    GAMMA=Option(0.5, "share of the teacher's log-probabilities that is diffused", least=0, most=1, tune=(0.0, 1.0)),
    TOP_K_RATIO=Option(0.5, "share of the patches that LGD uses", above=0, most=1, tune=(0.01, 1.0)),
    SMOOTHING=Option("log", "what is diffused: log-probabilities or probabilities", choices=SMOOTHINGS),
    FOLD_HELD_OUT=Option(False, "fold the held-out classes into the graph"),
)
"""The options of OGKD's terms; a method with DISTIL ogkd takes them from OGKD's section of the configuration."""


def distilled_with(cfg: CfgNode) -> CfgNode | None:
    """OGKD's section of a configuration if its method takes OGKD's terms (DISTIL), else None."""
    own = cfg.TRAINER.get(cfg.TRAINER.NAME.upper()) or {}
    return cfg.TRAINER.OGKD if own.get("DISTIL") == "ogkd" else None


def graph_fingerprint(options: CfgNode, dataset: str) -> dict[str, str]:
    """The SHA-256 of the file of the class graph, if it has one, under "graph"."""
    path = graph_file(options.GRAPH, dataset)
    return {"graph": hashlib.sha256(path.read_bytes()).hexdigest()} if path else {}


def fingerprints(method: type[Method], cfg: CfgNode, dataset: str) -> dict[str, str]:
    """`Method.fingerprints` of a configuration's method, and of the terms that it takes."""
    options = distilled_with(cfg)
    own = method.fingerprints(cfg.TRAINER[cfg.TRAINER.NAME.upper()], dataset)
    return own | (graph_fingerprint(options, dataset) if options else {})


class Distillation:
    """Global and local alignment (GAD, LGD) of a student with the teacher's log-probabilities, which are diffused along
    a graph of the classes; no gradient flows through the teacher or the graph.

    options: values of DISTILLATION_OPTIONS. method: the student.
    """

    def __init__(self, options: CfgNode, method: Method, task: Task) -> None:
        self.options, self.scale = options, method.scale
        self.teacher = task.teacher(method, options=options)
        self.graph = self._graph(method, task)

    def _graph(self, method: Method, task: Task) -> Tensor:
        """W (C, C); with FOLD_HELD_OUT, the graph over all classes (held-out ones last), folded by `fold_held_out`."""
        kind, alpha = self.options.GRAPH, self.options.ALPHA
        held_out, prototypes = task.held_out if self.options.FOLD_HELD_OUT else [], self.teacher.prototypes
        if kind == TEXT:
            more = [task.teacher(method, held_out, self.options).prototypes] if held_out else []
            graph = class_graph(torch.cat([prototypes, *more]), alpha)
        else:
            matrix = class_graph_matrix(kind, [*method.classnames, *held_out], task.dataset_name, alpha)
            graph = torch.from_numpy(matrix).to(prototypes)
        return fold_held_out(graph, len(method.classnames)) if held_out else graph

    def terms(
        self, student: ImageFeatures, frozen: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """Both terms, given the images' tokens as the student sees them and as the teacher does, the student's text
        features (C, D), or (B, C, D) for each image its own, and its logits (B, C)."""
        options, scale = self.options, self.scale
        image, patches, seen = frozen.global_token, frozen.patch_tokens, student.patch_tokens
        diffusion = (self.graph, options.GAMMA, options.SMOOTHING)
        selected = self.teacher.selected_prototypes(image, scale, options.TAU)
        teacher = scale * image @ selected.t()
        terms = {"gad": options.LAMBDA_GAD * gad_loss(logits, teacher, *diffusion)}
        if patches is None or seen is None:  # the model has none in the space of texts, of which the run warns
            return terms

        patch_teacher = scale * patches @ selected.t()
        chosen = attentive_patches(patch_teacher, label, options.TOP_K_RATIO)[..., None]
        patch_teacher = patch_teacher.gather(1, chosen.expand(-1, -1, patch_teacher.shape[-1]))
        patch_logits = scale * seen.gather(1, chosen.expand(-1, -1, seen.shape[-1])) @ text.mT
        return terms | {"lgd": options.LAMBDA_LGD * lgd_loss(patch_logits, patch_teacher, label, *diffusion)}


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


def kl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits (B, C), summed and divided by B * C."""
    kl = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return kl / student.numel()
