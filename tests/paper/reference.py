"""Slow loop versions of the attentions and losses, written from the paper: what the fast ones must agree with."""

import math

import torch
from torch import Tensor


def attend_words(hidden: Tensor, words: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Eq. 2, one position at a time: hidden (B, C, H, W), words (B, C, T)."""
    batch, channels, height, width = hidden.shape
    context = torch.zeros(batch, channels, height, width, dtype=hidden.dtype)
    attention = torch.zeros(batch, words.shape[2], height, width, dtype=hidden.dtype)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                scores = [float(hidden[b, :, y, x] @ words[b, :, t]) for t in range(lengths[b])]
                largest = max(scores)
                weights = [math.exp(score - largest) for score in scores]
                for t, weight in enumerate(weights):
                    share = weight / sum(weights)
                    attention[b, t, y, x] = share
                    context[b, :, y, x] += share * words[b, :, t]
    return context, attention


def word_score(regions: Tensor, words: Tensor, gamma1: float, gamma2: float) -> float:
    """Eq. 7 to 10 for one picture (D, R) and one caption without padding (D, T): log of the sum over words."""
    similarity = words.T @ regions  # (T, R)
    shared = torch.zeros_like(similarity)
    for region in range(regions.shape[1]):  # Eq. 8: the words share out each region
        column = (similarity[:, region] - similarity[:, region].max()).exp()
        shared[:, region] = column / column.sum()
    total = 0.0
    for word in range(words.shape[1]):
        weights = (gamma1 * shared[word]).exp()
        weights = weights / weights.sum()  # Eq. 9
        context = sum(weight * regions[:, region] for region, weight in enumerate(weights))
        cosine = float(context @ words[:, word] / max(float(context.norm() * words[:, word].norm()), 1e-8))
        total += math.exp(gamma2 * cosine)
    return math.log(total)


def matching_losses(scores: list[list[float]], class_ids: list[int]) -> tuple[float, float]:
    """Eq. 12 both ways over scores[image][caption], other pairs of one class left out."""
    count = len(scores)

    def cross_entropy(row: list[float], own: int) -> float:
        kept = [score for i, score in enumerate(row) if i == own or class_ids[i] != class_ids[own]]
        largest = max(kept)
        return largest + math.log(sum(math.exp(score - largest) for score in kept)) - row[own]

    rows = [cross_entropy(scores[i], i) for i in range(count)]
    columns = [cross_entropy([scores[j][i] for j in range(count)], i) for i in range(count)]
    return sum(rows) / count, sum(columns) / count


def word_loss(
    regions: Tensor, words: Tensor, lengths: list[int], class_ids: list[int], gammas: tuple[float, float, float]
) -> tuple[float, float]:
    """The word loss pair by pair: regions (B, D, R), words (B, D, T)."""
    gamma1, gamma2, gamma3 = gammas
    scores = [
        [gamma3 * word_score(image, caption[:, :length], gamma1, gamma2) for caption, length in zip(words, lengths)]
        for image in regions
    ]
    return matching_losses(scores, class_ids)


def sentence_loss(images: Tensor, sentences: Tensor, class_ids: list[int], gamma3: float) -> tuple[float, float]:
    """The sentence loss pair by pair: images (B, D), sentences (B, D)."""
    scores = [[gamma3 * float(i @ s) / max(float(i.norm() * s.norm()), 1e-8) for s in sentences] for i in images]
    return matching_losses(scores, class_ids)
