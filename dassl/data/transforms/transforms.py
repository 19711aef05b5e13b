"""Image transforms under Dassl's names, on torchvision's."""

from __future__ import annotations

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
    "random_flip", "random_resized_crop", "normalize", "random_crop", "center_crop", *POLICIES, "randaugment",
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


class CropDown:
    """A centre crop to (height, width) that rounds half an odd margin down, as transformers does; torchvision rounds it
    to the even number."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def __call__(self, image):
        top, left = ((side - most) // 2 for side, most in zip((image.height, image.width), self.size, strict=True))
        return TF.crop(image, top, left, *self.size)

    def __repr__(self) -> str:
        return f"CropDown({self.size})"


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
    return [*steps, ToTensor(), *_normalize(cfg, choices)]


def _test_steps(cfg: CfgNode, choices: list[str]) -> list:
    size, mode = tuple(cfg.INPUT.SIZE), INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
    if cfg.INPUT.RESIZE == "longest":
        resize = ResizeLongest(size, mode)
    else:
        resize = Resize(size if cfg.INPUT.RESIZE == "squash" else max(size), interpolation=mode)
    crop = CropDown(size) if cfg.INPUT.RESIZE == "shortest_down" else CenterCrop(size)
    return [resize, crop, ToTensor(), *_normalize(cfg, choices)]


def _normalize(cfg: CfgNode, choices: list[str]) -> list:
    return [Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD))] if "normalize" in choices else []
