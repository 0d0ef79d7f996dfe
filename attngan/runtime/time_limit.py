"""Work that others do, waited for no longer than so many seconds."""

import threading
from collections.abc import Callable


def within(seconds: float, work: Callable[[], None]) -> bool:
    """Do something for at most so many seconds; it may go on after that, unheeded, until the process ends.

    Returns:
        Whether it has ended.
    """
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    worker.join(seconds)
    return not worker.is_alive()
