"""Backbones by name, for trainers that build their own network."""

from .backbone import BACKBONE_REGISTRY, Backbone, build_backbone

__all__ = ["BACKBONE_REGISTRY", "Backbone", "build_backbone"]
