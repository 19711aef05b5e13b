"""Imports what every run needs, for a process from which others are forked."""

import gc
import importlib

from ogkd.core.garbage import no_collection

with no_collection():
    for _name in ("ogkd.runs.execute", "open_clip", "transformers.models.bert.modeling_bert"):
        importlib.import_module(_name)
gc.freeze()  # keeps collections in the forked processes from copying the memory that they share
