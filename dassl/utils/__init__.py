"""Helpers that trainers and data sets written for Dassl import from here; most are those of ogkd.core."""

from ogkd import core
from ogkd.core import *  # noqa: F403

from .meters import AverageMeter, MetricMeter
from .registry import Registry

__all__ = [*core.__all__, "AverageMeter", "MetricMeter", "Registry"]
