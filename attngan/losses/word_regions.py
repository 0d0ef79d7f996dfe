"""The arithmetic of Eq. 8 and 9 for every word and region of a batch: few passes over memory, no padding where it can.

A batch of 48 has 10 million pairs of a word and a region: what a step does to each of them is most of its time.
"""

import dataclasses
import math

import torch
from torch import Tensor

MIN_NORM = 1e-8  # cosine denominators are not allowed below it
CACHED = 2**20  # numbers that are worked on together: the caches of some cores hold them
Span = tuple[int, int, int]  # rows from, to, and words of each caption there


@dataclasses.dataclass(frozen=True)
class PackedWords:
    """How the words of J captions lie one after another, N rows in all, captions of one length side by side.

    Attributes:
        rows: (N,) which of the J * T places of the padded captions each row comes from; None: all of them.
        spans: rows of captions of one length.
        back: (J,) where among the packed captions each caption is; None: where it was.
        is_padding: (N,) True for rows that are no words; None: all are.
    """

    rows: Tensor | None
    spans: list[Span]
    back: Tensor | None
    is_padding: Tensor | None

    @classmethod
    def padded(cls, is_padding: Tensor) -> "PackedWords":
        """Leave captions (J, T) as they lie: no number of theirs is looked at."""
        count, longest = is_padding.shape
        return cls(None, [(0, count * longest, longest)], None, is_padding.flatten())

    @classmethod
    def of(cls, is_padding: Tensor) -> "PackedWords":
        """Pack captions (J, T) without their padding on a CPU; elsewhere, or compiled, it stays."""
        if is_padding.device.type != "cpu" or torch.compiler.is_compiling():
            return cls.padded(is_padding)
        count, longest = is_padding.shape
        lengths = longest - is_padding.sum(dim=1)
        order = lengths.argsort(stable=True)
        places = torch.arange(count * longest).view(count, longest)[order]
        kinds, counts = (each.tolist() for each in lengths[order].unique_consecutive(return_counts=True))
        spans, start = [], 0
        for length, captions in zip(kinds, counts, strict=True):
            spans.append((start, start + length * captions, length))
            start += length * captions
        return cls(places[~is_padding[order]], spans, order.argsort(), None)

    def pack(self, words: Tensor) -> Tensor:
        """Return the rows (N, D) of padded words (J, D, T)."""
        rows = words.transpose(1, 2).flatten(0, 1)
        return rows if self.rows is None else rows[self.rows]

    def logsumexp(self, values: Tensor) -> Tensor:
        """Return the logarithm of the sum of exponentials over each caption's words, (I, J) from (I, N)."""
        if self.is_padding is not None:
            values = values.masked_fill(self.is_padding, -torch.inf)
        spans = [values[:, start:stop].unflatten(1, (-1, length)).logsumexp(2) for start, stop, length in self.spans]
        found = torch.cat(spans, dim=1)
        return found if self.back is None else found[:, self.back]


class RegionWeights(torch.autograd.Function):
    """How much each word looks at each region: Eq. 9 without its denominator, the exponential of gamma1 times Eq. 8.

    Autograd would keep and pass over three tensors of this size more. Everything is computed in float32 or more; what
    enters and leaves has the precision of the scores.
    """

    @staticmethod
    def forward(context, scores: Tensor, packed: PackedWords, gamma1: float) -> Tensor:
        """Return weights (I, N, R).

        Args:
            context: of autograd.
            scores: (N, I, R), how alike word and region are (Eq. 7).
            packed: whose words they are.
            gamma1: how sharply a word looks at the regions.
        """
        shares = torch.empty_like(scores, dtype=torch.promote_types(scores.dtype, torch.float32))
        weights = scores.new_empty(scores.shape[1], scores.shape[0], scores.shape[2])
        for start, stop, length in packed.spans:
            own, part = scores[start:stop], shares[start:stop]
            if packed.is_padding is not None:
                own = own.masked_fill(packed.is_padding[start:stop, None, None], -torch.inf)
            by_caption = own.unflatten(0, (-1, length)), part.unflatten(0, (-1, length))
            torch.softmax(by_caption[0], 1, dtype=part.dtype, out=by_caption[1])  # a caption's words share a region out
            # A power of two: torch's exp takes three times as long on an EPYC.
            weights[:, start:stop] = (gamma1 / math.log(2) * part).exp2_().transpose(0, 1)
        context.save_for_backward(shares, weights)
        context.spans, context.gamma1 = packed.spans, gamma1
        return weights

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient for the scores (N, I, R), from that for the weights (I, N, R)."""
        shares, weights = context.saved_tensors
        found = torch.empty_like(shares, dtype=weights.dtype)
        for start, stop, length in context.spans:
            part = shares[start:stop]
            change = gradient[:, start:stop].transpose(0, 1).to(shares.dtype, copy=True)
            change.mul_(weights[:, start:stop].transpose(0, 1)).mul_(part)
            by_caption = change.unflatten(0, (-1, length))
            by_caption.addcmul_(part.unflatten(0, (-1, length)), by_caption.sum(dim=1, keepdim=True), value=-1)
            found[start:stop] = change.mul_(context.gamma1)
        return found, None, None


class Cosines(torch.autograd.Function):
    """The cosine of every vector with its unit vector, in float32 or more; autograd would make twice the passes."""

    @staticmethod
    def forward(context, vectors: Tensor, units: Tensor) -> Tensor:
        """Return cosines (I, N).

        Args:
            context: of autograd.
            vectors: (I, N, D), in any precision.
            units: (N, D), each of length 1 or 0, in float32 or more.
        """
        lengths, cosines = units.new_empty(vectors.shape[:2]), units.new_empty(vectors.shape[:2])
        for part in _parts(vectors):
            exact = vectors[part].to(units.dtype)
            lengths[part] = exact.norm(dim=2)
            cosines[part] = (exact * units).sum(dim=2)
        cosines /= lengths.clamp_(min=MIN_NORM)
        context.save_for_backward(vectors, units, lengths, cosines)
        return cosines

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients for vectors and units (None where words are frozen), from that for the cosines."""
        vectors, units, lengths, cosines = context.saved_tensors
        scale, pull = (gradient / lengths)[..., None], (cosines / lengths)[..., None]
        for_vectors = torch.empty_like(vectors)
        for_units = torch.zeros_like(units) if context.needs_input_grad[1] else None
        for part in _parts(vectors):
            change = scale[part] * vectors[part].to(units.dtype)
            if for_units is not None:
                for_units += change.sum(dim=0)
            for_vectors[part] = change.mul_(-pull[part]).addcmul_(scale[part], units)
        return for_vectors, for_units


def _parts(vectors: Tensor) -> list[slice]:
    """Return which pictures are worked on together: on a CPU as many as its cache holds, elsewhere all."""
    count, numbers = len(vectors), vectors[0].numel()
    size = max(1, CACHED // numbers) if vectors.device.type == "cpu" else count
    return [slice(start, start + size) for start in range(0, count, size)]
