"""Dassl's module of this name: see ogkd/core/tools.py."""

from ogkd.core.tools import *  # noqa: F403
