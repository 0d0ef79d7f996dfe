"""The DAMSM's two losses (section 3.2): words against regions, sentences against images; no loop over the batch."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from attngan.losses.word_regions import MIN_NORM, Cosines, PackedWords, RegionWeights
from attngan.models.layers import at_least_float32

DAMSM_LOSSES = {  # by name, in words
    "words_image_to_text": "words, picture to caption",
    "words_text_to_image": "words, caption to picture",
    "sentence_image_to_text": "sentence, picture to caption",
    "sentence_text_to_image": "sentence, caption to picture",
}
Gather = Callable[[Tensor], Tensor]


def word_scores(
    region_features: Tensor, word_features: Tensor, is_padding: Tensor, *, gamma1: float, gamma2: float
) -> Tensor:
    """Return how well every caption's words match every image's regions: gamma2 times R(Q, D) of Eq. 10, (I, J).

    The released code leaves out Eq. 10's outer 1 / gamma2, so what `gamma3` sharpens is gamma2 times as large.

    Args:
        region_features: (I, D, H, W) or (I, D, R).
        word_features: (J, D, T).
        is_padding: (J, T), True where the caption has no word.
        gamma1: how sharply a word looks at the regions.
        gamma2: how much the best matching word counts.
    """
    if region_features.dtype == torch.float16:  # which cannot hold a sum over all regions
        with torch.autocast(region_features.device.type, enabled=False):
            exact = at_least_float32(region_features), at_least_float32(word_features)
            return word_scores(*exact, is_padding, gamma1=gamma1, gamma2=gamma2)
    regions = region_features.flatten(2).transpose(1, 2)  # (I, R, D)
    packed = PackedWords.of(is_padding)
    words = packed.pack(word_features)  # (N, D)
    scores = (words @ regions.flatten(0, 1).T).unflatten(1, regions.shape[:2])  # (N, I, R)
    weights = RegionWeights.apply(scores, packed, gamma1)  # (I, N, R)
    context = weights @ regions  # (I, N, D); a cosine knows no difference between the regions' sum and their mean
    cosines = Cosines.apply(context, functional.normalize(at_least_float32(words), dim=1, eps=MIN_NORM))
    return packed.logsumexp(gamma2 * cosines)


def sentence_scores(image_feature: Tensor, sentence_feature: Tensor) -> Tensor:
    """Return the cosine of every image with every sentence (I, J), from (I, D) and (J, D)."""
    image_feature = at_least_float32(image_feature)
    with torch.autocast(image_feature.device.type, enabled=False):
        norms = image_feature.norm(dim=1)[:, None] * sentence_feature.norm(dim=1)[None]
        return image_feature @ sentence_feature.T / norms.clamp(min=MIN_NORM)


def matching_loss(scores: Tensor, class_ids: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the cross entropy of finding the right caption for an image, and the right image for a caption (Eq. 12).

    Args:
        scores: (B, B), image by caption, already times gamma3; pairs belong together on the diagonal.
        class_ids: (B,); other pairs of the same class are left out of both sums. None: no class is known.
    """
    if class_ids is not None:
        is_same_class = class_ids[:, None] == class_ids[None]
        others = ~torch.eye(len(scores), dtype=torch.bool, device=scores.device)
        scores = scores.masked_fill(is_same_class & others, -torch.inf)
    targets = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores, targets), functional.cross_entropy(scores.T, targets)


def _as_they_are(scores: Tensor) -> Tensor:
    return scores


def word_loss(
    region_features: Tensor,
    word_features: Tensor,
    is_padding: Tensor,
    class_ids: Tensor | None = None,
    *,
    gamma1: float,
    gamma2: float,
    gamma3: float,
    gather: Gather = _as_they_are,
) -> tuple[Tensor, Tensor]:
    """Return L_1^w and L_2^w: an image against all captions, a caption against all images (Eq. 12, by words).

    Args:
        region_features: (B, D, H, W) or (B, D, R).
        word_features: (B, D, T).
        is_padding: (B, T), True where the caption has no word.
        class_ids: (B,) or None; other pairs of one class do not count as wrong.
        gamma1: Eq. 9.
        gamma2: Eq. 10.
        gamma3: Eq. 11.
        gather: makes the whole batch's scores of those of these images, where they are a part of the batch.
    """
    scores = word_scores(region_features, word_features, is_padding, gamma1=gamma1, gamma2=gamma2)
    return matching_loss(gamma3 * gather(scores), class_ids)


def sentence_loss(
    image_feature: Tensor,
    sentence_feature: Tensor,
    class_ids: Tensor | None = None,
    *,
    gamma3: float,
    gather: Gather = _as_they_are,
) -> tuple[Tensor, Tensor]:
    """Return L_1^s and L_2^s: the same by whole sentences, from (B, D) and (B, D)."""
    return matching_loss(gamma3 * gather(sentence_scores(image_feature, sentence_feature)), class_ids)


def damsm_losses(
    images: tuple[Tensor, Tensor],
    captions: tuple[Tensor, Tensor],
    is_padding: Tensor,
    class_ids: Tensor | None = None,
    *,
    gamma1: float,
    gamma2: float,
    gamma3: float,
    gather: Gather = _as_they_are,
) -> dict[str, Tensor]:
    """Return the four parts of the DAMSM loss (Eq. 13) by name.

    Args:
        images: of the image encoder: region_features (B, D, H, W) and image_feature (B, D); those of a part of the
            batch with `gather`.
        captions: of the text encoder: word_features (B, D, T) and sentence_feature (B, D).
        is_padding: (B, T), True where the caption has no word.
        class_ids: (B,) or None; other pairs of one class do not count as wrong.
        gamma1: Eq. 9.
        gamma2: Eq. 10.
        gamma3: Eq. 11.
        gather: makes the whole batch's (B, B) scores of those of a part of the images (I, B): processes that share a
            batch exchange their rows, not the features, and none computes what another one does.
    """
    gammas = {"gamma1": gamma1, "gamma2": gamma2, "gamma3": gamma3}
    words = word_loss(images[0], captions[0], is_padding, class_ids, **gammas, gather=gather)
    sentence = sentence_loss(images[1], captions[1], class_ids, gamma3=gamma3, gather=gather)
    return dict(zip(DAMSM_LOSSES, (*words, *sentence), strict=True))
