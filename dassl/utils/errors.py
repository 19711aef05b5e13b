"""What a user can get wrong."""


class UserError(Exception):
    """One clear sentence on what is wrong and how to mend it; shown without a traceback, exit code 2."""

    def __reduce__(self) -> tuple:  # survives the trip out of a data loader's worker as it is
        return type(self), (str(self),)
