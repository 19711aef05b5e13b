"""DermaMNIST: pigmented skin lesions in dermatoscopy (7 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class DermaMNIST(BiomedicalDataset):
    dataset_dir = "DermaMNIST"
