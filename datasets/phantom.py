"""The Phantom sets: synthetic scan-like images that `python -m phantom.dataset` makes; no download, no licence."""

from dassl.data.datasets import DATASET_REGISTRY

from .biomedical import BiomedicalDataset


@DATASET_REGISTRY.register()
class Phantom(BiomedicalDataset):
    """Twelve findings in four groups."""

    dataset_dir = "Phantom"
    remedy = "`python -m phantom.dataset --root {root}` makes it"


@DATASET_REGISTRY.register()
class PhantomShift(BiomedicalDataset):
    """The findings of Phantom from another scanner of the same modality."""

    dataset_dir = "PhantomShift"
    remedy = "`python -m phantom.dataset phantom_shift --root {root}` makes it"


@DATASET_REGISTRY.register()
class PhantomGrades(BiomedicalDataset):
    """Five ordered grades of one finding."""

    dataset_dir = "PhantomGrades"
    remedy = "`python -m phantom.dataset phantom_grades --root {root}` makes it"
