"""The errors of this package that users may want to catch."""

from __future__ import annotations

from ogkd.core.errors import UserError


class ModelError(UserError):
    """A model cannot be loaded or used as asked; the message says in one sentence what is wrong and how to fix it."""


class MissingWeights(ModelError):
    """Files of a hub repository are not in the hub's cache and cannot be downloaded.

    `repository` is its name, "org/name", so that a program can add how to download it.
    """

    def __init__(self, message: str, repository: str = "") -> None:
        super().__init__(message)
        self.repository = repository


class OpenAIError(ModelError, RuntimeError):
    """A ModelError where OpenAI's package raises RuntimeError."""
