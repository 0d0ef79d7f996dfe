"""What can go wrong outside of our code: what a person can put right, and a race that another run has won."""


class InputError(ValueError):
    """Something a person gave is missing, damaged or does not fit.

    The message is one sentence or two: what was expected, what was found, where, and what to do. The command line
    prints it and exits with status 2; every other exception is a bug and keeps its traceback.
    """


class Changed(Exception):
    """What was to be replaced is no longer what it was when it was read: somebody else has written it since."""
