"""Both attentions against loops written from the paper, and what the mask promises."""

import reference
import torch

from attngan.models.attention import attend_regions, attend_words


def padding(lengths: list[int], longest: int) -> torch.Tensor:
    return torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]


def test_word_attention_agrees_with_the_loop_for_captions_of_different_lengths():
    rng = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 5, 4, 3, generator=rng, dtype=torch.float64)
    words = torch.randn(3, 5, 6, generator=rng, dtype=torch.float64)
    lengths = [6, 1, 4]
    context, attention = attend_words(hidden, words, padding(lengths, 6))
    slow_context, slow_attention = reference.attend_words(hidden, words, lengths)
    torch.testing.assert_close(context, slow_context)
    torch.testing.assert_close(attention, slow_attention)


def test_word_attention_on_padding_is_exactly_zero_and_sums_to_one():
    hidden, words = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 5)
    _, attention = attend_words(hidden, words, padding([5, 2], 5))
    assert (attention[1, 2:] == 0).all()
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, 3, 3))


def test_what_stands_in_the_padding_changes_nothing():
    hidden, words = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 5)
    changed = words.clone()
    changed[1, :, 2:] = 1000.0
    first, second = (attend_words(hidden, each, padding([5, 2], 5))[0] for each in (words, changed))
    assert torch.equal(first, second)


def test_the_mask_of_each_row_is_its_own_captions_mask():
    # The released code tiles the mask in the wrong order: with lengths 1 and 3, row 0 could look at word 2.
    _, attention = attend_words(torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 3), padding([1, 3], 3))
    torch.testing.assert_close(attention[0, :, 0, 0], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(attention[1, :, 0, 0], torch.full((3,), 1 / 3))


def test_region_attention_sums_to_one_over_regions_for_every_pair():
    _, attention = attend_regions(torch.randn(2, 4, 9), torch.randn(3, 4, 5), padding([5, 1, 3], 5), gamma1=4.0)
    torch.testing.assert_close(attention.sum(dim=3), torch.ones(2, 3, 5))
