from __future__ import annotations

from collections.abc import Sequence

import torchvision
from torch import nn

from dassl.utils import Registry, check_availability

BACKBONE_REGISTRY = Registry("BACKBONE")
HEAD_REGISTRY = Registry("HEAD")
NETWORK_REGISTRY = Registry("NETWORK")


def _resnet(name: str):
    def build(pretrained: bool = True, **_: object) -> nn.Module:
        model = torchvision.models.get_model(name, weights="DEFAULT" if pretrained else None)
        model.out_features = model.fc.in_features
        model.fc = nn.Identity()
        return model

    build.__name__ = name
    return build


for _name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"):
    BACKBONE_REGISTRY.register(_resnet(_name))


@HEAD_REGISTRY.register()
def mlp(
    in_features: int = 2048,
    hidden_layers: Sequence[int] = (),
    activation: str = "relu",
    bn: bool = True,
    dropout: float = 0.0,
    **_: object,
) -> nn.Module:
    """Linear layers, each with batch normalisation, activation and dropout."""
    activations = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
    layers: list[nn.Module] = []
    for width in hidden_layers:
        layers.append(nn.Linear(in_features, width))
        layers += [nn.BatchNorm1d(width)] if bn else []
        layers.append(activations[activation]())
        layers += [nn.Dropout(dropout)] if dropout > 0 else []
        in_features = width
    head = nn.Sequential(*layers)
    head.out_features = in_features
    return head


def _build(registry: Registry, name: str, verbose: bool, kwargs: dict) -> nn.Module:
    check_availability(name, registry.registered_names())
    if verbose:
        print(f"{registry._name.capitalize()}: {name}")
    return registry.get(name)(**kwargs)


def build_backbone(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """The backbone of a name. Raises UserError when there is none."""
    return _build(BACKBONE_REGISTRY, name, verbose, kwargs)


def build_head(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """The head of a name. Raises UserError when there is none."""
    return _build(HEAD_REGISTRY, name, verbose, kwargs)


def build_network(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """The network of a name. Raises UserError when there is none."""
    return _build(NETWORK_REGISTRY, name, verbose, kwargs)
