"""Networks that others trained and published: from the file of their weights, whose sha256 is checked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from attngan.config.settings import WeightsFile
from attngan.errors import InputError, shown
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.storage import artifacts, places, tensor_files


@contextlib.contextmanager
def weights_file(given: WeightsFile, setting: str) -> Iterator[tuple[Path, str]]:
    """Give a file of weights that settings name, and its sha256; one of cloud storage is here while the block runs.

    Args:
        given: path or URI, and the sha256 that is promised.
        setting: which names it, such as "evaluate.mobilenet_v2".
    """
    with places.local_input(given.uri) as path:
        where = f"{setting}: {given.uri}"
        yield path, artifacts.checked_sha256(path, given.sha256, f"{setting}.sha256", where=where)


def efficientnet_lite0(path: Path) -> EfficientNetLite0:
    """Return EfficientNet-Lite0, frozen, with the weights of a file."""
    network = EfficientNetLite0()
    load(network, tensor_files.read(path), path, "the weights of EfficientNet-Lite0, efficientnet-lite0-57934424.pth")
    return network


def load(network: nn.Module, tensors: dict[str, Tensor], path: Path, expected: str) -> None:
    """Put the tensors of a file into a network, which has the same names for them.

    Args:
        network: changed in place.
        tensors: by name.
        path: they were read from.
        expected: which file should have been given, in messages.

    Raises:
        InputError: the tensors are those of another network, or not finite; one that does not fit is named.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise misfit(path, error, expected) from None
    if infinite := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {shown(infinite[0])} holds values that are not finite; copy the file again.")


def misfit(path: Path, error: RuntimeError, expected: str) -> InputError:
    """Return what to say where torch finds that the tensors of a file are not those of a network."""
    detail = " ".join(str(error).split())[:160]
    return InputError(f"{path}: expected {expected}, found other tensors ({detail}); give that file.")
