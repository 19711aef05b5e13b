"""Dassl's module of this name: see ogkd/core/logger.py."""

from ogkd.core.logger import *  # noqa: F403
