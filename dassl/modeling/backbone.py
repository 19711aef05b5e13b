"""Networks from images to features, by name; torchvision's residual networks are registered."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from dassl.utils import Registry
from ogkd.core import check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module):
    """Base of backbones: images (B, 3, H, W) -> features (B, out_features); a subclass sets `_out_features`."""

    _out_features: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def out_features(self) -> int | None:
        return self._out_features


class _ResNet(Backbone):
    def __init__(self, name: str, pretrained: bool) -> None:
        super().__init__()
        self.network = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        self._out_features = self.network.fc.in_features
        self.network.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@BACKBONE_REGISTRY.register()
def resnet18(pretrained: bool = True, **_: object) -> Backbone:
    return _ResNet("resnet18", pretrained)


@BACKBONE_REGISTRY.register()
def resnet34(pretrained: bool = True, **_: object) -> Backbone:
    return _ResNet("resnet34", pretrained)


@BACKBONE_REGISTRY.register()
def resnet50(pretrained: bool = True, **_: object) -> Backbone:
    return _ResNet("resnet50", pretrained)


@BACKBONE_REGISTRY.register()
def resnet101(pretrained: bool = True, **_: object) -> Backbone:
    return _ResNet("resnet101", pretrained)


@BACKBONE_REGISTRY.register()
def resnet152(pretrained: bool = True, **_: object) -> Backbone:
    return _ResNet("resnet152", pretrained)


def build_backbone(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """Build the backbone called `name`. Raises UserError when it does not exist."""
    check_availability(name, BACKBONE_REGISTRY.registered_names())
    if verbose:
        print(f"Backbone: {name}")
    return BACKBONE_REGISTRY.get(name)(**kwargs)
