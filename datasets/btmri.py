"""BTMRI: brain tumours in MRI (4 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class BTMRI(BiomedicalDataset):
    dataset_dir = "BTMRI"
