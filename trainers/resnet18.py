"""ResNet-18: a small network without a language model, fine-tuned from ImageNet (He et al., CVPR 2016,
arXiv 1512.03385)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch
import torch.nn.functional as F
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.core.hashes import file_sha256
from ogkd.models import ImageFeatures
from ogkd.models.sources import TRANSFORMERS_WEIGHTS, Repository, from_hub, weights_in
from ogkd.models.weights import read
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task

RANDOM = "random"
HEAD = "fc."  # the prefix of the classifier's names in a checkpoint


@register
class ResNet18(Method):
    """Cross entropy; every weight is trained, from the ImageNet weights and a new linear classifier.

    It shares the backbone's images and nothing else, so that it tells what a prompt is worth on the same draws. A patch
    is a position of the last feature map, whose mean is the image's feature (class activation maps, arXiv 1512.04150).
    """

    title, paper, row = "ResNet-18", "1512.03385", 58
    groups = ("weights", "new")
    folder = "network"
    has_novel_head = False
    frozen_images = False
    compares_tokens = True  # with the classifier's rows
    schedule_by_step = True
    options = Options(
        WEIGHTS=Option(
            "timm/resnet18.tv_in1k",
            "where training starts: a repository on the hub, a folder, a file in timm's or torchvision's format, or "
            f"{RANDOM}",
        )
    )

    network: Any
    own_mean: Tensor
    own_std: Tensor
    imagenet_mean: Tensor
    imagenet_std: Tensor

    def build(self) -> None:
        self.network = timm.create_model("resnet18", num_classes=len(self.classnames))
        for name, values in (("mean", IMAGENET_DEFAULT_MEAN), ("std", IMAGENET_DEFAULT_STD)):
            own = torch.tensor(getattr(self.clip_model, name))
            self.register_buffer(f"own_{name}", own[:, None, None], persistent=False)
            self.register_buffer(f"imagenet_{name}", torch.tensor(values)[:, None, None], persistent=False)

    @classmethod
    def fingerprints(cls, options: CfgNode, dataset: str) -> dict[str, str]:
        return {} if options.WEIGHTS == RANDOM else {"ResNet-18's weights": file_sha256(_file(options.WEIGHTS))}

    def prepare(self, task: Task) -> None:
        if self.options.WEIGHTS == RANDOM:
            return
        path = _file(self.options.WEIGHTS)
        state = {name: value for name, value in read(path).items() if not name.startswith(HEAD)}
        mine = {name: value for name, value in self.network.state_dict().items() if not name.startswith(HEAD)}
        wrong = next((n for n in mine if n not in state or state[n].shape != mine[n].shape), None)
        wrong = wrong or next((name for name in state if name not in mine), None)
        if wrong:
            raise UserError(f"{path} does not hold the weights of a ResNet-18 (see {wrong}): give another file.")
        self.network.load_state_dict(state, strict=False)

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """The mean over positions (B, 512) and the positions (B, P, 512) of the last feature map."""
        pixels = images.to(self.device) * self.own_std + self.own_mean
        maps = self.network.forward_features((pixels - self.imagenet_mean) / self.imagenet_std)
        tokens = maps.flatten(2).transpose(1, 2)
        return ImageFeatures(tokens.mean(1), tokens if patches else None)

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.network.fc(self.encode(inputs).global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        return cast(nn.Module, self.network.fc)


def _file(weights: str) -> Path:
    """The weights file of the option WEIGHTS, downloaded if it is a repository that the hub's cache lacks."""
    path = Path(weights)
    if path.is_file():
        return path
    folder = path if path.is_dir() else None
    if folder is None and (weights.count("/") != 1 or weights.startswith(("/", "."))):
        raise UserError(
            f"The option WEIGHTS of ResNet-18 is {weights}, which is no file or folder: give one with the weights, "
            f"the name org/name of a repository on the hub, or {RANDOM}."
        )
    return weights_in(folder or from_hub(Repository(weights, (), TRANSFORMERS_WEIGHTS)), TRANSFORMERS_WEIGHTS)
