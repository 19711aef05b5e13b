"""The one exception that a user of this package has to know."""


class ModelError(Exception):
    """A model cannot be had or used as asked; the message says in one sentence what is wrong and how to mend it."""
