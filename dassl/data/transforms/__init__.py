from .randaugment import RandAugment, RandAugment2, RandAugmentFixMatch
from .transforms import AVAI_CHOICES, INTERPOLATION_MODES, build_transform

__all__ = [
    "AVAI_CHOICES",
    "INTERPOLATION_MODES",
    "RandAugment",
    "RandAugment2",
    "RandAugmentFixMatch",
    "build_transform",
]
