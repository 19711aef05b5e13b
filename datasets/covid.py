"""COVID_19; what is known of it stands in catalogue.json."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class COVID_19(BiomedicalDataset):
    dataset_dir = "COVID_19"
