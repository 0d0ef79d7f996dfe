"""Numbers of the original networks and losses: inputs and weights by formula, expected values, tolerances.

They lie in `tests/reference`; a folder `shared/reference` beside the checkout, where there is one, comes first.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attngan.inference import released

BESIDE, OWN = Path(__file__).parents[3] / "shared" / "reference", Path(__file__).parent / "reference"
FOLDER = BESIDE if (BESIDE / "attngan_ref_seed1.npz").exists() else OWN
SIDES = {"real64": 64, "real128": 128, "real256": 256, "fake64": 64, "fake128": 128, "fake256": 256, "img299": 299}


EXACT = {"atol": 0.0, "rel_l2": 0.0}  # counts
LOADERS = {
    "text_encoder": released.load_text_encoder,
    "image_encoder": released.load_image_encoder,
    "netG": released.load_generator,
    "netD0": released.load_discriminator,
    "netD1": released.load_discriminator,
    "netD2": released.load_discriminator,
}


class Reference:
    """The arrays, what they were computed from, and how near one has to come."""

    def __init__(self):
        self.arrays = dict(np.load(FOLDER / "attngan_ref_seed1.npz", allow_pickle=False))
        facts = json.loads((FOLDER / "attngan_ref_seed1_keys.json").read_text(encoding="utf-8"))
        self.seed, self.layouts, self.tolerances = facts["seed"], facts["networks"], facts["tolerances"]

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def normal(self, scope: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._state(scope, name).standard_normal(shape)

    def _state(self, scope: str, name: str) -> np.random.RandomState:
        return np.random.RandomState(zlib.crc32(f"{self.seed}:{scope}:{name}".encode()))

    def input(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy((0.5 * self.normal("input", name, shape)).astype(np.float32))

    def images(self, name: str) -> Tensor:
        side, count = SIDES.get(name, 256), 2 if name == "img256" else 4
        state = self._state("input", name)
        coarse, fine = state.standard_normal((count, 3, 16, 16)), state.standard_normal((count, 3, side, side))
        coarse = coarse.repeat(-(-side // 16), axis=2).repeat(-(-side // 16), axis=3)[:, :, :side, :side]
        images = np.clip(0.4 * coarse + 0.1 * fine, -1, 1).astype(np.float32)
        self._confirm(f"inputs_check/{name}", images)
        return torch.from_numpy(images)

    def weights(self, net: str) -> dict[str, Tensor]:
        """Return a network's state dict, in the authors' names and order."""
        layout = [(key, tuple(shape)) for key, shape, _ in self.layouts[net]]
        keys = {key for key, _ in layout}
        made = {key: self._weight(net, key, shape, keys) for key, shape in layout}
        for row, key in zip(self.arrays[f"weights_check/{net}"], made, strict=True):
            self._confirm_row(f"{net} {key}", row, made[key].numpy())
        return made

    def _weight(self, net: str, key: str, shape: tuple[int, ...], keys: set[str]) -> Tensor:
        parent, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked":
            return torch.zeros((), dtype=torch.int64)
        values = self.normal(net, key, shape)
        if f"{parent}.running_mean" in keys:
            offset = {"weight": 1.0, "running_var": 1.0}.get(leaf, 0.0)
            values = offset + 0.1 * (np.abs(values) if leaf == "running_var" else values)
        elif leaf.startswith("bias"):
            values = 0.01 * values
        elif net == "text_encoder":
            values = values if key == "encoder.weight" else 0.1 * values
        else:
            gain = 2.5 if net == "image_encoder" else 2.0
            centred = values - values.mean(axis=tuple(range(1, values.ndim)), keepdims=True)
            values = np.sqrt(gain / np.prod(shape[1:])) * centred
        return torch.from_numpy(values.astype(np.float32))

    def weight(self, net: str, key: str, shape: tuple[int, ...]) -> Tensor:
        """Return one tensor of a network that is not in the file."""
        return self._weight(net, key, shape, {key})

    def _confirm(self, name: str, values: np.ndarray) -> None:
        self._confirm_row(name, self.arrays[name], values)

    def _confirm_row(self, name: str, row: np.ndarray, values: np.ndarray) -> None:
        flat = values.astype(np.float64).ravel()
        found = [flat.mean(), flat.std(), flat[0], flat[-1]]
        np.testing.assert_allclose(found, row, rtol=1e-6, atol=1e-6, err_msg=f"{name} is not made by the rule")

    def under(self, *prefixes: str) -> set[str]:
        """Return the names of all arrays with one of the prefixes."""
        return {name for name in self.arrays if name.startswith(prefixes)}

    def compare(self, found: dict[str, Tensor | np.ndarray | float], expected: set[str]) -> None:
        """Ask that these are all the expected arrays, each within its own tolerance; every one outside is named."""
        assert found.keys() == expected
        faults = [fault for name, value in found.items() if (fault := self._fault(name, value))]
        assert not faults, "\n".join(faults)

    def _fault(self, name: str, value: Tensor | np.ndarray | float) -> str | None:
        value = value.detach().numpy() if isinstance(value, Tensor) else value
        found, wanted = np.asarray(value, dtype=np.float64), np.asarray(self.arrays[name], dtype=np.float64)
        if found.shape != wanted.shape:
            return f"{name}: shape {found.shape}, expected {wanted.shape}"
        finite = np.isfinite(wanted)
        if not np.array_equal(found[~finite], wanted[~finite]):
            return f"{name}: other places are infinite"
        errors = np.abs(found[finite] - wanted[finite])
        limits = self.tolerances.get(name.removeprefix("f64/"), EXACT)
        if "max_flip" in limits:  # after a first Adam step a gradient of rounding noise goes either way
            if (errors <= limits["atol"]).mean() < 0.75 or errors.max() > limits["max_flip"]:
                return f"{name}: off by {errors.max():.3g}"
            return None
        relative = np.linalg.norm(errors) / max(np.linalg.norm(wanted[finite]), 1e-30)
        if errors.max(initial=0) > limits["atol"] or relative > limits["rel_l2"]:
            return (
                f"{name}: off by {errors.max():.3g} (allowed {limits['atol']:.3g}), relative {relative:.3g} (allowed "
                f"{limits['rel_l2']:.3g})"
            )
        return None


def authors_network(reference: Reference, name: str, folder: Path) -> nn.Module:
    """Return a network in evaluation mode, loaded from a file such as the authors would have written."""
    path = folder / f"{name}.pth"
    if not path.exists():
        torch.save(reference.weights(name), path)
    return LOADERS[name](path)


def tiled_attend_words(hidden: Tensor, words: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
    """Attend as the released code does: row b * Q + q of the scores gets the mask of caption (b * Q + q) mod B."""
    batch, _, height, width = hidden.shape
    owners = torch.arange(batch * height * width) % batch
    mask = is_padding[owners].unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)  # (B, T, H, W)
    scores = torch.einsum("BCHW,BCT->BTHW", hidden, words).masked_fill(mask, -torch.inf)
    attention = scores.softmax(dim=1)
    return torch.einsum("BTHW,BCT->BCHW", attention, words), attention


def mean_and_std(values: Tensor) -> Tensor:
    values = values.detach().double()
    return torch.stack([values.mean(), values.std(correction=0)])


def mean_and_rms(values: Tensor) -> Tensor:
    values = values.detach().double()
    return torch.stack([values.mean(), values.square().mean().sqrt()])


def named(network: nn.Module, rename) -> dict[str, Tensor]:
    """Return a network's parameters and buffers, live, by the authors' names."""
    return {rename(name): tensor for name, tensor in network.state_dict(keep_vars=True).items()}
