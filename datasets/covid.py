"""COVID_19: chest X-rays of COVID-19 and its look-alikes (4 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class COVID_19(BiomedicalDataset):
    dataset_dir = "COVID_19"
