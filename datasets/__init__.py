"""Image data sets for prompt tuning. `register_all` registers all of them in dassl's DATASET_REGISTRY.

Your own images need no code (`ImageFolder`). A data set with a split file in CoOp's format needs an entry in
catalogue.json; a class for it (see btmri.py) only follows CoOp's convention.
"""

import importlib
import pkgutil


def register_all() -> None:
    """Import every module here, which registers its data set, and register the rest of the catalogue."""
    from dassl.data.datasets import DATASET_REGISTRY

    from ogkd.data.biomedical import BiomedicalDataset
    from ogkd.data.catalogue import load

    for module in pkgutil.iter_modules(__path__):
        if not module.ispkg:
            importlib.import_module(f"{__name__}.{module.name}")
    for facts in load().everything():
        if facts.name not in DATASET_REGISTRY.registered_names():
            DATASET_REGISTRY.register(type(facts.name, (BiomedicalDataset,), {"dataset_dir": facts.name}))
