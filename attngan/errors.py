"""The one exception for what a person can put right."""


class InputError(ValueError):
    """Something a person gave is missing, damaged or does not fit.

    The message is one sentence or two: what was expected, what was found, where, and what to do. The command line
    prints it and exits with status 2; every other exception is a bug and keeps its traceback.
    """
