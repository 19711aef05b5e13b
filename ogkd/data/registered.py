"""Registers the data sets with Dassl: those of the catalogue, folders of images, and files in datasets/."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core.places import IN_CHECKOUT
from ogkd.data import image_folder  # noqa: F401  registers ImageFolder
from ogkd.data.biomedical import BiomedicalDataset
from ogkd.data.catalogue import load


@functools.cache
def catalogued() -> dict[str, type[BiomedicalDataset]]:
    """A registered class for each data set of the catalogue, by its name there."""
    classes = {
        facts.name: type(facts.name, (BiomedicalDataset,), {"dataset_dir": facts.name}) for facts in load().everything()
    }
    for dataset in classes.values():
        DATASET_REGISTRY.register(dataset)
    return classes


def register_all() -> None:
    """Register every data set of this project."""
    catalogued()
    if IN_CHECKOUT:  # further files may have been added to the folder
        import datasets

        for module in pkgutil.iter_modules(datasets.__path__):
            importlib.import_module(f"datasets.{module.name}")
