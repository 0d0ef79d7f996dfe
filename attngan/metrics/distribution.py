"""How far generated pictures are from real ones as a set: KID, FID, Inception Score, precision and recall.

All work on features, whatever network made them; a set of features may lie in a mapped file and is read in parts.
"""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 1000  # rows in memory at a time
NEIGHBOURHOOD = 3  # k of precision and recall (Kynkäänniemi et al. 2019, section 3.1)
MANIFOLD_SIZE = 10_000  # rows of each side that precision and recall look at, at most
NUM_SPLITS = 10  # of the Inception Score (Salimans et al. 2016)


@dataclasses.dataclass(frozen=True)
class Rows:
    """Rows of a table (N, D), which may lie in a mapped file; `index` (M,) picks some, in its order."""

    values: Tensor
    index: Tensor | None = None

    def __len__(self) -> int:
        return len(self.values if self.index is None else self.index)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """Return the chosen rows (M, D), read from the file."""
        return self.values[chosen if self.index is None else self.index[chosen]]

    def chunks(self) -> Iterator[Tensor]:
        """Return all rows in order, some at a time."""
        return (self[start : start + CHUNK] for start in range(0, len(self), CHUNK))

    def sample(self, count: int, rng: torch.Generator) -> "Rows":
        """Return `count` different rows at random, or all of them where there are no more."""
        chosen = torch.randperm(len(self), generator=rng)[:count]
        return Rows(self.values, chosen if self.index is None else self.index[chosen])


def kid(real: Rows, generated: Rows, rng: torch.Generator, *, num_subsets: int, subset_size: int) -> float:
    """Return the kernel inception distance: the mean unbiased squared MMD of random subsets, kernel (x.y / D + 1)^3.

    Its expectation is 0 for equal distributions at any N, so small reference sets do it no harm; it may be below 0
    (Binkowski et al. 2018, section 4).

    Args:
        real: (N, D).
        generated: (M, D).
        rng: picks the subsets.
        num_subsets: how many are averaged.
        subset_size: rows of each, or as many as both sets have.
    """
    from torch_fidelity.metric_kid import kernel_mmd

    size = min(subset_size, len(real), len(generated))
    pairs = ((real.sample(size, rng)[:], generated.sample(size, rng)[:]) for _ in range(num_subsets))
    distances = [kernel_mmd(theirs.double().numpy(), ours.double().numpy()) for theirs, ours in pairs]
    return float(sum(distances) / num_subsets)


def fid(real: Rows, generated: Rows) -> float:
    """Return the Fréchet inception distance of Gaussians fitted to both sets (Heusel et al. 2017).

    It is biased upwards, the more so the fewer rows there are to each of the D dimensions.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1.
    """
    mean, covariance = _gaussian(real)
    other_mean, other_covariance = _gaussian(generated)
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp(min=0).sqrt()  # root @ root.T is the covariance
    # The eigenvalues of covariance @ other_covariance, from a symmetric matrix: many times faster at D = 2048.
    products = torch.linalg.eigvalsh(root.T @ other_covariance @ root)
    spread = covariance.trace() + other_covariance.trace() - 2 * products.clamp(min=0).sqrt().sum()
    return ((mean - other_mean).square().sum() + spread).item()


def _gaussian(rows: Rows) -> tuple[Tensor, Tensor]:
    """Return mean (D,) and unbiased covariance (D, D) in float64."""
    mean = sum(chunk.double().sum(dim=0) for chunk in rows.chunks()) / len(rows)
    scatter = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for chunk in rows.chunks():
        centred = chunk.double() - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter / (len(rows) - 1)


def inception_score(logits: Rows) -> float:
    """Return exp of the mean KL divergence of p(y|x) from p(y), averaged over splits (Salimans et al. 2016).

    Args:
        logits: (N, K) of a classifier, in random order.
    """
    scores = []
    for part in torch.arange(len(logits)).chunk(NUM_SPLITS):
        total, information = torch.zeros(logits.values.shape[1], dtype=torch.float64), 0.0
        for chunk in part.split(CHUNK):
            log_share = functional.log_softmax(logits[chunk].double(), dim=1)
            total += log_share.exp().sum(dim=0)
            information += (log_share.exp() * log_share).sum().item()
        marginal = total / len(part)
        scores.append(information / len(part) - torch.xlogy(marginal, marginal).sum().item())
    return torch.tensor(scores, dtype=torch.float64).exp().mean().item()


def precision_recall(real: Rows, generated: Rows, rng: torch.Generator) -> tuple[float, float]:
    """Return which share of generated pictures lies among real ones, and of real ones among generated ones.

    To lie among others is to be nearer to one of them than its third neighbour of its own kind (Kynkäänniemi et al.
    2019, Eq. 1 and 2), or its last one where there are fewer. Both need sets of equal size to be compared with other
    figures.

    Args:
        real: (N, D), N > 1.
        generated: (M, D), M > 1.
        rng: picks rows where there are more than 10,000.
    """
    from torch_fidelity.metric_prc import calculate_precision_recall_part

    theirs, ours = (rows.sample(MANIFOLD_SIZE, rng)[:].float() for rows in (real, generated))
    return calculate_precision_recall_part(ours, theirs, min(NEIGHBOURHOOD, len(theirs) - 1, len(ours) - 1), CHUNK)
