"""How often the right sentence is found for a picture: recall at k, and the R-precision of section 4."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 500  # pictures at a time


def recall_at(
    image_feature: Tensor, sentence_feature: Tensor, captions: Sequence[str], class_ids: Tensor, *, k: int
) -> float:
    """Return the share of pictures whose caption is among the k best of their own and those of other classes.

    Captions of one class may fit all of its pictures, so they are no wrong answers, as in the losses and R-precision.

    Args:
        image_feature: (N, D).
        sentence_feature: (N, D), of each picture's own caption.
        captions: N texts; an equal text of another class counts as right.
        class_ids: (N,) of the pictures.
        k: how many of the best captions are looked at.
    """
    scores = cosines(image_feature, sentence_feature)
    others = ~torch.eye(len(captions), dtype=torch.bool, device=scores.device)
    class_ids = class_ids.to(scores.device)
    scores = scores.masked_fill((class_ids[:, None] == class_ids) & others, -torch.inf)
    texts = {text: number for number, text in enumerate(dict.fromkeys(captions))}
    ids = torch.tensor([texts[text] for text in captions], device=scores.device)
    best = scores.topk(min(k, len(captions)), dim=1).indices
    return (ids[best] == ids[:, None]).any(dim=1).float().mean().item()


def r_precision(image_feature: Tensor, sentence_feature: Tensor, candidates: Tensor, wrong: Tensor) -> Tensor:
    """Say for each picture whether its own sentence beats every wrong one (R = 1).

    Args:
        image_feature: (N, D).
        sentence_feature: (N, D), of each picture's own sentence.
        candidates: (M, D) sentences to draw wrong ones from.
        wrong: (N, K) indices into them: the mismatching sentences of each picture.

    Returns:
        (N,) bool. A tie is not a find.
    """
    right = functional.cosine_similarity(image_feature, sentence_feature, dim=1)
    return right > cosines(image_feature, candidates).gather(1, wrong).amax(dim=1)


def fewest_wrong(own: Tensor, candidates: Tensor) -> int:
    """Return how many sentences fit a picture in no label, of the picture for which they are fewest.

    Args:
        own: (N, L) labels of each picture's own sentence (its class, its text).
        candidates: (M, L) labels of the sentences to draw from.
    """
    chunks = own.unique(dim=0).split(CHUNK)
    return min(int((chunk[:, None] != candidates).all(dim=2).sum(dim=1).min()) for chunk in chunks)


def draw_mismatches(own: Tensor, candidates: Tensor, num_mismatches: int, rng: torch.Generator) -> Tensor:
    """Draw for each picture sentences that do not fit it, without drawing one twice.

    Args:
        own: (N, L) labels of each picture's own sentence (its class, its text); a sentence that shares one may fit.
        candidates: (M, L) labels of the sentences to draw from.
        num_mismatches: K, how many for each picture.
        rng: the random state.

    Returns:
        (N, K) indices into the M sentences.

    Raises:
        ValueError: for some picture fewer than K sentences are wrong.
    """
    rows = []
    for labels in own:
        wrong = (candidates != labels).all(dim=1).nonzero()[:, 0]
        if len(wrong) < num_mismatches:
            raise ValueError(f"found {len(wrong)} sentences of other classes, expected at least {num_mismatches}")
        rows.append(wrong[torch.randperm(len(wrong), generator=rng)[:num_mismatches]])
    return torch.stack(rows)


def others(labels: Tensor) -> list[int]:
    """Return for each of some captions the number of one that is not its own: another class, another text.

    It is half-way round the list, or the first after that which differs; where none does, it is the caption itself.

    Args:
        labels: (N, L) of each caption (its class, its text); a caption that shares one may fit as well.
    """
    found, count = [], len(labels)
    for number, own in enumerate(labels):
        half_way = (number + count // 2) % count
        if (labels[half_way] != own).all():
            found.append(half_way)
            continue
        differs = (labels != own).all(dim=1).roll(-half_way)
        found.append((half_way + int(differs.int().argmax())) % count if differs.any() else number)
    return found


def cosines(image_feature: Tensor, sentence_feature: Tensor) -> Tensor:
    """Return all cosines (I, J) of (I, D) with (J, D)."""
    return functional.normalize(image_feature, dim=1) @ functional.normalize(sentence_feature, dim=1).T
