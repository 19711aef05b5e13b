"""What a user can get wrong."""


class UserError(Exception):
    """One clear sentence on what is wrong and how to mend it; shown without a traceback, exit code 2."""

    def __init__(self, message: str) -> None:
        # PyTorch raises an error of a data loader's process again with that process' traceback for its message, the
        # last line of which holds the sentence.
        before, found, sentence = message.rpartition(f"{type(self).__name__}: ")
        super().__init__(sentence.strip() if found and before.startswith("Caught ") else message)
