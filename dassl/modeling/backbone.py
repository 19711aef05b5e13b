"""Networks from images to features, by name; torchvision's residual networks are registered."""

from __future__ import annotations

import torchvision
from torch import Tensor, nn

from dassl.utils import Registry

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
    """One of torchvision's; a subclass has its name."""

    def __init__(self, pretrained: bool = True, **_: object) -> None:
        super().__init__()
        self.network = torchvision.models.get_model(type(self).__name__, weights="DEFAULT" if pretrained else None)
        self._out_features = self.network.fc.in_features
        self.network.fc = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    globals()[_name] = BACKBONE_REGISTRY.register(type(_name, (_ResNet,), {"__module__": __name__}))


def build_backbone(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """Build the backbone called `name`. Raises UserError when it does not exist."""
    return BACKBONE_REGISTRY.named(name, "Backbone" if verbose else "")(**kwargs)
