"""Imports what every run needs, for a process from which others are forked."""

import gc
import importlib

gc.disable()  # the search for garbage would take a fifth of the time
for _name in ("ogkd.runs.execute", "open_clip", "transformers.models.bert.modeling_bert"):
    importlib.import_module(_name)
gc.enable()
gc.freeze()  # keeps collections in the forked processes from copying the memory that they share
