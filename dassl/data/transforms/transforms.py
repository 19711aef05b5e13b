"""Image transforms under Dassl's names; the same seed draws the same numbers as in Dassl."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import (
    AutoAugment,
    AutoAugmentPolicy,
    CenterCrop,
    ColorJitter,
    Compose,
    GaussianBlur,
    InterpolationMode,
    Normalize,
    RandAugment,
    RandomApply,
    RandomCrop,
    RandomGrayscale,
    RandomHorizontalFlip,
    RandomResizedCrop,
    Resize,
    ToTensor,
)
from torchvision.transforms import functional as TF
from yacs.config import CfgNode

from ogkd.core import WrongValue

INTERPOLATION_MODES = {
    "bilinear": InterpolationMode.BILINEAR,
    "bicubic": InterpolationMode.BICUBIC,
    "nearest": InterpolationMode.NEAREST,
}
POLICIES = {
    "imagenet_policy": AutoAugmentPolicy.IMAGENET,
    "cifar10_policy": AutoAugmentPolicy.CIFAR10,
    "svhn_policy": AutoAugmentPolicy.SVHN,
}
AVAI_CHOICES = [
    "random_flip", "random_resized_crop", "normalize", "instance_norm", "random_crop", "random_translation",
    "center_crop", "cutout", *POLICIES, "randaugment", "gaussian_noise",
    "colorjitter", "randomgrayscale", "gaussian_blur",
]  # fmt: skip


class ResizeLongest:
    """Resize a PIL image so that its longer side, relative to (height, width), fits; a crop then pads the other."""

    def __init__(self, size: tuple[int, int], interpolation=InterpolationMode.BILINEAR) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, image):
        sides = image.height, image.width
        ratio = max(side / most for side, most in zip(sides, self.size, strict=True))
        return TF.resize(image, [max(1, round(side / ratio)) for side in sides], self.interpolation)

    def __repr__(self) -> str:
        return f"ResizeLongest({self.size}, interpolation={self.interpolation.value})"


class Random2DTranslation:
    """With probability p, enlarge by an eighth and crop a random window of (height, width)."""

    def __init__(self, height: int, width: int, p: float = 0.5, interpolation=InterpolationMode.BILINEAR) -> None:
        self.height, self.width, self.p, self.interpolation = height, width, p, interpolation

    def __call__(self, image):
        if random.uniform(0, 1) > self.p:
            return TF.resize(image, [self.height, self.width], self.interpolation)
        height, width = round(self.height * 1.125), round(self.width * 1.125)
        image = TF.resize(image, [height, width], self.interpolation)
        left = round(random.uniform(0, width - self.width))
        top = round(random.uniform(0, height - self.height))
        return TF.crop(image, top, left, self.height, self.width)

    def __repr__(self) -> str:
        return f"Random2DTranslation({self.height}, {self.width}, p={self.p})"


class InstanceNormalization:
    """Normalise each channel of an image tensor (C, H, W) to mean 0 and standard deviation 1."""

    def __init__(self, eps: float = 1e-8) -> None:
        self.eps = eps

    def __call__(self, image: Tensor) -> Tensor:
        mean, std = image.mean((1, 2), keepdim=True), image.std((1, 2), keepdim=True)
        return (image - mean) / (std + self.eps)

    def __repr__(self) -> str:
        return f"InstanceNormalization(eps={self.eps})"


class Cutout:
    """Set n_holes random squares of a tensor (C, H, W) to 0. Their side is `length` pixels, or one less if that is odd;
    they are clipped at the border."""

    def __init__(self, n_holes: int = 1, length: int = 16) -> None:
        self.n_holes, self.length = n_holes, length

    def __call__(self, image: Tensor) -> Tensor:
        image = image.clone()
        height, width = image.shape[-2:]
        half = self.length // 2
        for _ in range(self.n_holes):
            y, x = np.random.randint(height), np.random.randint(width)
            image[..., max(0, y - half) : y + half, max(0, x - half) : x + half] = 0
        return image

    def __repr__(self) -> str:
        return f"Cutout({self.n_holes}, {self.length})"


class GaussianNoise:
    """With probability p, add noise N(mean, std^2) to a tensor."""

    def __init__(self, mean: float = 0.0, std: float = 0.15, p: float = 0.5) -> None:
        self.mean, self.std, self.p = mean, std, p

    def __call__(self, image: Tensor) -> Tensor:
        if random.uniform(0, 1) > self.p:
            return image
        return image + torch.randn(image.shape) * self.std + self.mean

    def __repr__(self) -> str:
        return f"GaussianNoise({self.mean}, {self.std}, p={self.p})"


def build_transform(cfg: CfgNode, is_train: bool = True, choices: list[str] | None = None) -> Compose | None:
    """Build the transform that cfg.INPUT describes, for training or for testing; None with INPUT.NO_TRANSFORM.

    Raises:
        WrongValue: a transform or the interpolation is unknown.
    """
    if cfg.INPUT.NO_TRANSFORM:
        print("Note: no transform is applied!")
        return None
    choices = list(cfg.INPUT.TRANSFORMS if choices is None else choices)
    for name in choices:
        if name not in AVAI_CHOICES:
            raise WrongValue(f"There is no transform '{name}'; there are {', '.join(AVAI_CHOICES)}.")
    if cfg.INPUT.INTERPOLATION not in INTERPOLATION_MODES:
        raise WrongValue(
            f"INPUT.INTERPOLATION is '{cfg.INPUT.INTERPOLATION}'; it can be {', '.join(INTERPOLATION_MODES)}."
        )
    steps = _train_steps(cfg, choices) if is_train else _test_steps(cfg, choices)
    if cfg.VERBOSE:
        print(f"Building transform_{'train' if is_train else 'test'}")
        for step in steps:
            print(f"+ {step}")
    return Compose(steps)


def _train_steps(cfg: CfgNode, choices: list[str]) -> list:
    options, size = cfg.INPUT, tuple(cfg.INPUT.SIZE)
    mode = INTERPOLATION_MODES[options.INTERPOLATION]
    steps: list = []
    if not {"random_crop", "random_resized_crop"} & set(choices):
        steps.append(Resize(size, interpolation=mode))
    on_image = {
        "random_translation": lambda: Random2DTranslation(*size),
        "random_crop": lambda: RandomCrop(size, padding=options.CROP_PADDING),
        "random_resized_crop": lambda: RandomResizedCrop(size, scale=tuple(options.RRCROP_SCALE), interpolation=mode),
        "center_crop": lambda: CenterCrop(size),
        "random_flip": RandomHorizontalFlip,
        **{name: lambda policy=policy: AutoAugment(policy) for name, policy in POLICIES.items()},
        "randaugment": lambda: RandAugment(options.RANDAUGMENT_N, options.RANDAUGMENT_M),
        "colorjitter": lambda: ColorJitter(
            options.COLORJITTER_B, options.COLORJITTER_C, options.COLORJITTER_S, options.COLORJITTER_H
        ),
        "randomgrayscale": lambda: RandomGrayscale(p=options.RGS_P),
        "gaussian_blur": lambda: RandomApply([GaussianBlur(options.GB_K)], p=options.GB_P),
    }
    steps += [make() for name, make in on_image.items() if name in choices]
    steps.append(ToTensor())
    on_tensor = {
        "cutout": lambda: Cutout(options.CUTOUT_N, options.CUTOUT_LEN),
        "normalize": lambda: _normalize(cfg),
        "gaussian_noise": lambda: GaussianNoise(options.GN_MEAN, options.GN_STD),
        "instance_norm": InstanceNormalization,
    }
    return steps + [make() for name, make in on_tensor.items() if name in choices]


def _test_steps(cfg: CfgNode, choices: list[str]) -> list:
    size, mode = tuple(cfg.INPUT.SIZE), INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    if cfg.INPUT.RESIZE == "longest":
        resize = ResizeLongest(size, mode)
    else:
        resize = Resize(size if cfg.INPUT.RESIZE == "squash" else max(size), interpolation=mode)
    steps = [resize, CenterCrop(size), ToTensor()]
    if "normalize" in choices:
        steps.append(_normalize(cfg))
    if "instance_norm" in choices:
        steps.append(InstanceNormalization())
    return steps


def _normalize(cfg: CfgNode) -> Normalize:
    return Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD))
