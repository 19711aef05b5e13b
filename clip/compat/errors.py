"""The error of OpenAI's names: one sentence, as everywhere here, that `except RuntimeError` catches too."""

from __future__ import annotations

from clip.errors import ModelError


class CompatError(ModelError, RuntimeError):
    """A ModelError where OpenAI's package raises RuntimeError."""
