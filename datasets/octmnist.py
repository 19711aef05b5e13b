"""OCTMNIST: retinal disease in optical coherence tomography (4 classes; counts and sources in catalogue.json)."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class OCTMNIST(BiomedicalDataset):
    dataset_dir = "OCTMNIST"
