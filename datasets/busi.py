"""BUSI: breast tumours in ultrasound (3 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class BUSI(BiomedicalDataset):
    dataset_dir = "BUSI"
