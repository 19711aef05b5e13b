"""Image data sets for prompt tuning. `register_all` enters all of them in dassl's DATASET_REGISTRY.

A set of one's own needs no code (`ImageFolder`). One with a split file in CoOp's format needs an entry in
catalogue.json; a class of its own (see btmri.py) is for CoOp's convention only.
"""

import importlib
import pkgutil


def register_all() -> None:
    """Import every module here, each of which registers its data set, and register the rest of the catalogue."""
    from dassl.data.datasets import DATASET_REGISTRY

    from .biomedical import BiomedicalDataset
    from .catalogue import load

    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            importlib.import_module(f"{__name__}.{module.name}")
    for facts in load().everything():
        if facts.name not in DATASET_REGISTRY.registered_names():
            DATASET_REGISTRY.register(type(facts.name, (BiomedicalDataset,), {"dataset_dir": facts.name}))
