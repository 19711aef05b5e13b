"""The name of ogkd.runs before version 0.3."""

import importlib
import sys

sys.modules[__name__] = importlib.import_module("ogkd.runs")
