"""Losses and layers that trainers written for Dassl share.

Not included are those that only domain adaptation and generalisation use: MixStyle, EFDMix, DSBN, TransNorm, MMD,
dynamic convolutions and optimal transport.
"""

from .cross_entropy import cross_entropy
from .mixup import mixup
from .reverse_grad import ReverseGrad

__all__ = ["ReverseGrad", "cross_entropy", "mixup"]
