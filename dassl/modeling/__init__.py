"""Backbones and heads by name, for trainers that build a network of their own."""

from .build import BACKBONE_REGISTRY, HEAD_REGISTRY, NETWORK_REGISTRY, build_backbone, build_head, build_network

__all__ = [
    "BACKBONE_REGISTRY",
    "HEAD_REGISTRY",
    "NETWORK_REGISTRY",
    "build_backbone",
    "build_head",
    "build_network",
]
