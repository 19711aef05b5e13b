"""Tiny models whose every number comes from NumPy's RandomState, which is the same in every version, and a few steps of
a method on them: what other implementations are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from yacs.config import CfgNode

from ogkd import models
from ogkd.models import FrozenCLIP
from ogkd.runs.config import defaults
from ogkd.tuning.method import Method
from tests.support import openai_clip, tiny_models

NAMES = ["cyst", "glioma tumor", "normal"]
LABELS = [torch.tensor([0, 2, 1, 1]), torch.tensor([2, 0, 1])]  # of the two batches of an epoch


def numbers(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def numbered(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict's tensors of floats, in the order of their names, filled with numbers of usual sizes."""
    filled = {}
    for seed, (name, like) in enumerate(sorted(state.items())):
        if not like.is_floating_point() or name == "logit_scale":
            filled[name] = like
        elif like.ndim == 1:
            filled[name] = 0.1 * numbers(seed, *like.shape) + (1.0 if name.endswith("weight") else 0.0)
        else:
            filled[name] = numbers(seed, *like.shape) * (1.5 * like[0].numel() ** -0.5)
    return filled


def biomedclip(folder: Path) -> FrozenCLIP:
    """In BiomedCLIP's format: a ViT of timm with 6 layers, a BERT with 3."""
    path = tiny_models.biomedclip(folder) / "open_clip_model.safetensors"
    save_file(numbered(load_file(path)), path)
    return models.load(folder)


def clip(folder: Path) -> FrozenCLIP:
    """In the format of OpenAI's CLIP, with 3 layers in each tower."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(numbered(openai_clip.tiny().state_dict()), folder / "ViT-tiny.pt")
    return models.load(folder / "ViT-tiny.pt")


MAKERS = {"biomedclip": biomedclip, "clip": clip}


def batches(model: FrozenCLIP) -> list[tuple[Tensor, Tensor]]:
    """An epoch's images and labels."""
    side = model.image_size
    return [(numbers(100 + len(label), len(label), 3, side, side), label) for label in LABELS]


def method_of(kind: type[Method], model: FrozenCLIP, names: Sequence[str] = NAMES, **options: object) -> Method:
    """A method whose random parameters are numbered too."""
    method = kind(CfgNode(kind.options.defaults() | options), model, names)
    with torch.no_grad():
        for seed, (_, value) in enumerate(sorted(method.named_parameters()), start=200):
            if value.abs().sum() > 0:
                value.copy_(numbers(seed, *value.shape) * value.shape[-1] ** -0.5)
    return method


def trained(method: Method, epochs: int = 10, **optim: object) -> list[float]:
    """The losses of each of two steps an epoch, with AdamW unless OPTIM's keys say otherwise; the method learns."""
    data = batches(method.clip_model)
    optim = defaults()["OPTIM"] | {"NAME": "adamw", "MAX_EPOCH": epochs, "WARMUP_EPOCH": 0, "WEIGHT_DECAY": 0.0} | optim
    optimiser, schedule = method.optimiser(CfgNode(optim), len(data))
    assert schedule is not None
    losses = []
    for _ in range(epochs):
        method.train()
        for images, label in data:
            terms, _ = method.losses(images, label)
            losses.append(sum(terms.values()).item())
            method.zero_grad()
            method.backward(terms)
            optimiser.step()
            if method.schedule_by_step:
                schedule.step()
        if not method.schedule_by_step:
            schedule.step()
    return losses


def assert_zero_shot(method: Method, zero_shot: Method, images: Tensor, precision: str) -> None:
    """Both classify images and their patches alike."""
    logits = []
    for one in (method, zero_shot):
        tokens = one.encode(images, patches=True)
        with torch.no_grad():
            logits.append((one.classifier()(tokens.global_token), one.patch_classifier()(tokens)))
    close = {"rtol": 1e-3, "atol": 1e-3} if precision == "fp32" else {"rtol": 0.05, "atol": 0.5}
    for mine, of_zero_shot in zip(*logits, strict=True):
        torch.testing.assert_close(mine, of_zero_shot, **close)
