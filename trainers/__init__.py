"""Prompt-tuning methods and their baselines; every module here registers its trainers when the package is imported."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
