"""COVID_19: its facts are in catalogue.json."""

from dassl.data.datasets import DATASET_REGISTRY

from ogkd.data.biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class COVID_19(BiomedicalDataset):
    dataset_dir = "COVID_19"
