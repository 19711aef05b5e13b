"""The name of ogkd.runs before version 0.3."""

import importlib
import sys
import warnings

warnings.warn(f"{__name__} is now ogkd.runs", DeprecationWarning, stacklevel=2)
sys.modules[__name__] = importlib.import_module("ogkd.runs")
