"""Heads: the layers between a backbone and a classifier, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from dassl.utils import Registry
from ogkd.core import check_availability

HEAD_REGISTRY = Registry("HEAD")
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class MLP(nn.Module):
    """Linear layers, each with batch normalisation, activation and dropout: (B, in_features) -> (B, out_features)."""

    def __init__(
        self,
        in_features: int = 2048,
        hidden_layers: Sequence[int] | int = (),
        activation: str = "relu",
        bn: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        widths = [hidden_layers] if isinstance(hidden_layers, int) else list(hidden_layers)
        if not widths:
            raise ValueError("an MLP needs at least one hidden layer")
        if activation not in ACTIVATIONS:
            raise NotImplementedError(f"activation '{activation}' is none of {', '.join(ACTIVATIONS)}")
        self.out_features = widths[-1]
        layers: list[nn.Module] = []
        for width in widths:
            layers.append(nn.Linear(in_features, width))
            layers += [nn.BatchNorm1d(width)] if bn else []
            layers.append(ACTIVATIONS[activation](inplace=True))
            layers += [nn.Dropout(dropout)] if dropout > 0 else []
            in_features = width
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


@HEAD_REGISTRY.register()
def mlp(**kwargs: Any) -> MLP:
    """An MLP."""
    return MLP(**kwargs)


def build_head(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """Build the head called `name`. Raises UserError when it does not exist."""
    check_availability(name, HEAD_REGISTRY.registered_names())
    if verbose:
        print(f"Head: {name}")
    return HEAD_REGISTRY.get(name)(**kwargs)
