"""Whole networks by name; none is registered here."""

from __future__ import annotations

from torch import nn

from dassl.utils import Registry
from ogkd.core import check_availability

NETWORK_REGISTRY = Registry("NETWORK")


def build_network(name: str, verbose: bool = True, **kwargs: object) -> nn.Module:
    """Build the network called `name`. Raises UserError when it does not exist."""
    check_availability(name, NETWORK_REGISTRY.registered_names())
    if verbose:
        print(f"Network: {name}")
    return NETWORK_REGISTRY.get(name)(**kwargs)
