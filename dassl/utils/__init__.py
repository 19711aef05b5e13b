"""Helpers that trainers and data sets written for Dassl import from here; many are those of ogkd.core."""

from ogkd import core
from ogkd.core import *  # noqa: F403

from . import tools, torchtools
from .meters import AverageMeter, MetricMeter
from .registry import Registry
from .tools import *  # noqa: F403
from .torchtools import *  # noqa: F403

__all__ = [*core.__all__, *tools.__all__, *torchtools.__all__, "AverageMeter", "MetricMeter", "Registry"]
