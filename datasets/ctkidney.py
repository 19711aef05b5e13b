"""CTKidney: kidney findings in CT (4 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class CTKidney(BiomedicalDataset):
    dataset_dir = "CTKidney"
