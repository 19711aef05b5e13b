"""Prompt-tuning methods and their baselines, one per file; importing the package makes them known.

To register them with Dassl see ogkd/tuning/checkout.py.
"""

import importlib
import pkgutil
import sys

if __name__ == "ogkd.trainers":
    from ogkd.tuning.checkout import collected

    with collected():
        for _module in pkgutil.iter_modules(__path__):
            importlib.import_module(f"{__name__}.{_module.name}")
else:  # CoOp's name for it
    from ogkd.core.former import alias

    alias({"trainers": "ogkd.trainers"})
    sys.modules[__name__] = importlib.import_module("ogkd.trainers")
