"""The error raised by OpenAI's names: one sentence, as everywhere here, and also caught by `except RuntimeError`."""

from __future__ import annotations

from ogkd.models.errors import ModelError


class CompatError(ModelError, RuntimeError):
    """A ModelError where OpenAI's package raises RuntimeError."""
