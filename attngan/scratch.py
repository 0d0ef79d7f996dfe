"""Numbers in the folder for temporary files (TMPDIR), mapped, so that the system need not hold them in memory."""

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from attngan.errors import InputError


def check_room(folder: Path, size: int, what: str, *, instead: str = "") -> None:
    """Make sure that there is room for a file, before it is written and found too large in the middle.

    Args:
        folder: of the file.
        size: of the file in bytes.
        what: in it, for people.
        instead: what else than a larger disk could help, from the comma on.

    Raises:
        InputError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise InputError(
            f"{folder}: {what} need {size / 1e9:,.1f} GB, found {free / 1e9:,.1f} GB free; set TMPDIR to a larger disk"
            f"{instead}."
        )


def write_through(path: Path) -> None:
    """Wait until the disk has what was written to a file, through a mapping of it too (Linux)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mapped_zeros(shape: Sequence[int], dtype: torch.dtype, what: str) -> Tensor:
    """Return zeros in a file that has no name, so that nothing is left of it however the process ends.

    Args:
        shape: of the tensor.
        dtype: of the tensor.
        what: these numbers are, for people.

    Raises:
        InputError: there is no room for the file.
    """
    folder, count = Path(tempfile.gettempdir()), math.prod(shape)
    check_room(folder, count * dtype.itemsize, what)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="attngan-") as file:
        file.truncate(count * dtype.itemsize)
        return torch.from_file(file.name, shared=True, size=count, dtype=dtype).view(*shape)
