"""Dassl's module of this name: see ogkd/core/torchtools.py."""

from ogkd.core.torchtools import *  # noqa: F403
