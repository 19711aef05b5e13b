"""LungColon: lung and colon cancer in histopathology (5 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class LungColon(BiomedicalDataset):
    dataset_dir = "LungColon"
