"""Losses and layers that trainers written for Dassl share.

What only domain adaptation and generalisation use (MixStyle, EFDMix, DSBN, TransNorm, MMD, dynamic convolutions,
optimal transport) is not here.
"""

from .cross_entropy import cross_entropy
from .mixup import mixup
from .reverse_grad import ReverseGrad

__all__ = ["ReverseGrad", "cross_entropy", "mixup"]
