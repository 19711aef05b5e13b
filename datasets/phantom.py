"""Phantom: synthetic scan-like images that `python -m phantom.dataset` makes; no download, no licence."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class Phantom(BiomedicalDataset):
    dataset_dir = "Phantom"
    remedy = "`python -m phantom.dataset --root {root}` makes it"
