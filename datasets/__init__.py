"""Image data sets for prompt tuning; importing this package registers all of them in dassl's DATASET_REGISTRY.

A set of one's own needs no code (`ImageFolder`); one with a split file in CoOp's format needs two lines (see btmri.py).
"""

from . import (
    btmri,
    busi,
    chmnist,
    covid,
    ctkidney,
    dermamnist,
    image_folder,
    kneexray,
    kvasir,
    lungcolon,
    octmnist,
    phantom,
    retina,
)

__all__ = [
    "btmri",
    "busi",
    "chmnist",
    "covid",
    "ctkidney",
    "dermamnist",
    "image_folder",
    "kneexray",
    "kvasir",
    "lungcolon",
    "octmnist",
    "phantom",
    "retina",
]
