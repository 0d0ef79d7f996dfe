"""Gradients written by hand against numerical ones, and packed words against padded ones."""

import pytest
import torch

from attngan.config import bounds, settings
from attngan.errors import InputError
from attngan.losses import damsm, word_regions
from attngan.losses.word_regions import Cosines, PackedWords, RegionWeights

LENGTHS = [3, 1, 5, 3]


def padding(lengths: list[int], longest: int) -> torch.Tensor:
    return torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]


def doubles(*shape: int) -> torch.Tensor:
    rng = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=rng, dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("arrange", [PackedWords.of, PackedWords.padded])
def test_region_weights_have_the_gradient_of_what_they_compute(arrange):
    packed = arrange(padding(LENGTHS, 5))
    rows = packed.spans[-1][1]
    assert torch.autograd.gradcheck(lambda scores: RegionWeights.apply(scores, packed, 4.0), doubles(rows, 2, 3))


def test_the_sharpest_look_that_settings_allow_fits_in_float16():
    scores = torch.tensor([[[60.0]], [[-60.0]]], dtype=torch.float16)  # of two words, of which one has the region
    weights = RegionWeights.apply(scores, PackedWords.padded(torch.zeros(1, 2, dtype=torch.bool)), bounds.SHARPEST)
    assert weights.dtype == torch.float16 and weights.isfinite().all()
    with pytest.raises(InputError, match=r"damsm\.gamma1: input should be less than or equal to 10, found 12"):
        settings.load(overrides=["damsm.gamma1=12"])


@pytest.mark.parametrize("num_together", [1, 40, word_regions.CACHED])  # numbers: of one picture, two, all
def test_cosines_are_torchs_and_have_their_gradient(num_together, monkeypatch):
    monkeypatch.setattr(word_regions, "CACHED", num_together)
    vectors, units = doubles(3, 4, 5), torch.nn.functional.normalize(doubles(4, 5).detach(), dim=1).requires_grad_()
    torch.testing.assert_close(Cosines.apply(vectors, units), torch.cosine_similarity(vectors, units, dim=2))
    assert torch.autograd.gradcheck(Cosines.apply, (vectors, units))


def test_cosines_of_low_precision_are_as_exact_as_those_numbers_can_be():
    vectors, units = doubles(2, 4, 64).detach().bfloat16(), torch.nn.functional.normalize(torch.ones(4, 64), dim=1)
    expected = torch.cosine_similarity(vectors.double(), units.double(), dim=2).float()
    torch.testing.assert_close(Cosines.apply(vectors, units), expected, rtol=0, atol=1e-6)


def test_packed_words_leave_no_padding_and_put_captions_of_one_length_side_by_side():
    packed = PackedWords.of(padding(LENGTHS, 5))
    assert packed.spans == [(0, 1, 1), (1, 7, 3), (7, 12, 5)] and packed.is_padding is None
    words = torch.arange(20.0).view(4, 5, 1).transpose(1, 2)  # 5 * caption + word
    assert packed.pack(words).flatten().tolist() == [5, 0, 1, 2, 15, 16, 17, 10, 11, 12, 13, 14]


def test_packed_and_padded_words_have_the_same_scores_and_gradients(monkeypatch):
    regions, words, is_padding = doubles(3, 6, 7), doubles(4, 6, 5), padding(LENGTHS, 5)
    found = []
    for arrange in (PackedWords.of, PackedWords.padded):
        monkeypatch.setattr(damsm.PackedWords, "of", arrange)
        scores = damsm.word_scores(regions, words, is_padding, gamma1=4.0, gamma2=5.0)
        found.append((scores, *torch.autograd.grad(scores.square().sum(), [regions, words])))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)
