"""BTMRI: its facts are in catalogue.json."""

from dassl.data.datasets import DATASET_REGISTRY

from ogkd.data.biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class BTMRI(BiomedicalDataset):
    dataset_dir = "BTMRI"
