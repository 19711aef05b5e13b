"""The name of ogkd.classes before version 0.3."""

import importlib
import sys

from ogkd.core.former import FORMER, alias

alias(FORMER, warn=True)
sys.modules[__name__] = importlib.import_module(FORMER[__name__])
