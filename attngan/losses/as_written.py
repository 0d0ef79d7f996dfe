"""The word scores of the paper, equation by equation: to read, and to hold `damsm.word_scores` against.

The fast form computes the same for all captions at once, with gradients of Eq. 8 to 10 by hand (`word_regions.py`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from attngan.losses.word_regions import MIN_NORM


def word_scores(
    region_features: Tensor, word_features: Tensor, lengths: Sequence[int], *, gamma1: float, gamma2: float
) -> Tensor:
    """Return how well every caption's words match every image's regions, as `damsm.word_scores` does: (I, J).

    Args:
        region_features: (I, D, H, W) or (I, D, R).
        word_features: (J, D, T).
        lengths: words of each of the J captions; the rest is padding.
        gamma1: Eq. 9.
        gamma2: Eq. 10.
    """
    regions = region_features.flatten(2)  # v, (I, D, R)
    scores = []
    for padded, length in zip(word_features, lengths, strict=True):
        words = padded[:, :length]  # e, (D, T)
        similarity = torch.einsum("DT,IDR->ITR", words, regions)  # Eq. 7
        similarity = similarity.softmax(dim=1)  # Eq. 8: the words share out each region
        attention = (gamma1 * similarity).softmax(dim=2)  # Eq. 9: the regions that a word looks at
        context = torch.einsum("ITR,IDR->IDT", attention, regions)  # c
        cosines = functional.cosine_similarity(context, words[None], dim=1, eps=MIN_NORM)  # R(c, e)
        scores.append((gamma2 * cosines).logsumexp(dim=1))  # gamma2 times Eq. 10
    return torch.stack(scores, dim=1)
