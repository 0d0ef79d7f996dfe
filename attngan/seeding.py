"""Random states as pure functions of (run seed, purpose, step), so that a resumed run repeats exactly.

No random state is ever saved: step 1,234 draws the same numbers whether the run reached it in one go or in ten.
"""

import hashlib

import torch


def seed_for(seed: int, *purpose: str | int) -> int:
    """Return the 63-bit seed of one purpose (say `seed_for(7, "noise", step)`), independent of every other purpose."""
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng_for(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a torch generator in the state that belongs to this purpose."""
    return torch.Generator(device=device).manual_seed(seed_for(seed, *purpose))
