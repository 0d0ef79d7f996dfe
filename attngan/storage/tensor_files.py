"""Files of tensors that others wrote: read without running code, and without more memory than they are large.

And trees of tensors that are written: copied first, since a training goes on to change them.
"""

import itertools
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from attngan.errors import InputError, shown


def read(path: Path, what: str = "weights") -> dict[str, Tensor]:
    """Return the tensors of a file by name, which may hold nothing else and no more of them than its size.

    Args:
        path: of safetensors, by its suffix, or of torch.
        what: whose tensors are expected, in messages.

    Raises:
        InputError: it is not there, damaged, holds other things, or claims more than its size; one sentence.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise InputError(f"{path}: expected the file of {what}, found {found}.")
    tensors = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(tensors, dict) or not all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in tensors.items()
    ):
        raise InputError(f"{path}: expected {what}, a dict of tensors by name, found something else.")
    odd = [name for name, each in tensors.items() if each.layout is not torch.strided or each.device.type != "cpu"]
    if odd:
        raise InputError(f"{path}: expected {what}, found in {shown(odd[0])} no plain tensor; get another file.")
    _check_size(path, sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({shown(str(error))}); copy it again.") from None


def _read_torch(path: Path) -> object:
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_size(path, sum(entry.file_size for entry in archive.infolist()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's on pickles that it may not know; it does not run them either way
            return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except MemoryError:
        raise InputError(f"{path}: asks for more memory than there is; it was not read.") from None
    except Exception as error:  # a damaged file makes torch fail in many ways; none of it is a fault of ours
        if isinstance(error, pickle.UnpicklingError) and re.search(r"\bglobal\b", str(error), re.IGNORECASE):
            raise InputError(
                f"{path}: not readable as a state dict of tensors: it holds more than those, which could run code; get "
                "the file from where it was published."
            ) from None
        raise InputError(
            f"{path}: not a whole PyTorch file, not readable as a state dict of tensors ({type(error).__name__}); copy "
            "it again."
        ) from None


def _check_size(path: Path, claimed: int) -> None:
    size = path.stat().st_size
    if claimed > size:
        raise InputError(f"{path}: claims {claimed:,} bytes of content in a file of {size:,}; it was not read.")


def copied(state: Any, into: Any = None) -> Any:
    """Return a state as it is now, in the processor's memory: the training goes on to change what it is made of.

    Args:
        state: a tree of dicts, lists, tensors and values.
        into: an earlier copy, whose tensors are used again where they fit; fresh memory takes several times as long.
    """
    if isinstance(state, Tensor):
        fits = isinstance(into, Tensor) and (into.shape, into.dtype) == (state.shape, state.dtype)
        if fits and into.stride() == state.stride():
            return into.copy_(state.detach())
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        before = into if isinstance(into, Mapping) else {}
        return {key: copied(value, before.get(key)) for key, value in state.items()}
    if isinstance(state, list | tuple):
        before = [*into] if isinstance(into, list | tuple) else []
        return type(state)(copied(value, old) for value, old in itertools.zip_longest(state, before[: len(state)]))
    return state
