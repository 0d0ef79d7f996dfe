"""The two word attentions, neither with parameters: the generator's (Eq. 2) and the DAMSM's (Eq. 7 to 9)."""

import torch
from torch import Tensor


def attend_words(hidden: Tensor, words: Tensor, is_padding: Tensor) -> tuple[Tensor, Tensor]:
    """Give every image position its own mixture of the caption's words (Eq. 2).

    Args:
        hidden: (B, C, H, W) features being refined.
        words: (B, C, T) word features, already projected to C channels.
        is_padding: (B, T), True where the caption has no word.

    Returns:
        word_context (B, C, H, W), and attention (B, T, H, W), which sums to 1 over T and is exactly 0 on padding.
    """
    positions = hidden.flatten(2).transpose(1, 2)  # (B, H * W, C): no copy where channels lie last
    scores = (positions @ words).masked_fill(is_padding[:, None], -torch.inf)
    attention = scores.softmax(dim=2)  # (B, H * W, T)
    context = attention @ words.transpose(1, 2)
    shape = hidden.shape[2:]
    return context.transpose(1, 2).unflatten(2, shape), attention.transpose(1, 2).unflatten(2, shape)


def attend_regions(
    region_features: Tensor, word_features: Tensor, is_padding: Tensor, *, gamma1: float
) -> tuple[Tensor, Tensor]:
    """Give every word of every caption its own mixture of every image's regions (Eq. 7 to 9).

    Args:
        region_features: (I, D, R) of the images.
        word_features: (J, D, T) of the captions.
        is_padding: (J, T), True where the caption has no word.
        gamma1: how sharply a word looks at the regions.

    Returns:
        region_context (I, J, D, T), and attention (I, J, T, R), which sums to 1 over R; both are meaningless, though
        finite, on padding.
    """
    words = word_features.transpose(1, 2).flatten(0, 1)  # (J * T, D)
    scores = (words @ region_features).unflatten(1, is_padding.shape)  # (I, J, T, R)
    # Eq. 8: the words of a caption share out each region; padding gets nothing.
    shares = scores.masked_fill(is_padding[None, :, :, None], -torch.inf).softmax(dim=2)
    attention = (gamma1 * shares).softmax(dim=3)
    return torch.einsum("IJTR,IDR->IJDT", attention, region_features), attention
