"""The DAMSM losses: closed forms, the loops of `reference.py`, and what masking leaves."""

import math

import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attngan.losses import as_written
from attngan.losses.damsm import matching_loss, sentence_loss, word_loss, word_scores

GAMMAS = {"gamma1": 4.0, "gamma2": 5.0, "gamma3": 10.0}


def padding(lengths: list[int], longest: int) -> torch.Tensor:
    return torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]


@st.composite
def batches(draw):
    size, longest = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    lengths = draw(st.lists(st.integers(1, longest), min_size=size, max_size=size))
    class_ids = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    return size, longest, lengths, class_ids, draw(st.integers(0, 1000))


@settings(max_examples=40, deadline=None)
@given(batches())
def test_word_and_sentence_loss_agree_with_the_loops(batch):
    size, longest, lengths, class_ids, seed = batch
    rng = torch.Generator().manual_seed(seed)
    regions = torch.randn(size, 4, 7, generator=rng, dtype=torch.float64)
    words = torch.randn(size, 4, longest, generator=rng, dtype=torch.float64)
    ids = torch.tensor(class_ids)
    fast = word_loss(regions, words, padding(lengths, longest), ids, **GAMMAS)
    slow = reference.word_loss(regions, words, lengths, class_ids, (4.0, 5.0, 10.0))
    torch.testing.assert_close(torch.stack(fast), torch.tensor(slow, dtype=torch.float64))
    images, sentences = regions[:, :, 0], words[:, :, 0]
    fast = sentence_loss(images, sentences, ids, gamma3=10.0)
    slow = reference.sentence_loss(images, sentences, class_ids, 10.0)
    torch.testing.assert_close(torch.stack(fast), torch.tensor(slow, dtype=torch.float64))


@settings(max_examples=40, deadline=None)
@given(batches())
def test_word_scores_and_their_gradients_are_those_of_the_equations_as_written(batch):
    size, longest, lengths, _, seed = batch
    rng = torch.Generator().manual_seed(seed)
    features = torch.randn(size, 4, 7, generator=rng).double(), torch.randn(size, 4, longest, generator=rng).double()
    found = []
    for scores_of, captions in ((word_scores, padding(lengths, longest)), (as_written.word_scores, lengths)):
        regions, words = (each.clone().requires_grad_() for each in features)
        scores = scores_of(regions, words, captions, gamma1=4.0, gamma2=5.0)
        scores.cos().sum().backward()  # another weight for each score
        found.append((scores.detach(), regions.grad, words.grad))
    for ours, written in zip(*found):
        torch.testing.assert_close(ours, written)


def test_word_loss_is_log_batch_size_when_nothing_tells_the_pairs_apart():
    regions = torch.linspace(-1, 1, 72).reshape(1, 8, 9).expand(4, 8, 9)
    words = torch.linspace(-1, 1, 40).reshape(1, 8, 5).expand(4, 8, 5)
    image_to_text, text_to_image = word_loss(regions, words, padding([5] * 4, 5), **GAMMAS)
    torch.testing.assert_close(image_to_text, torch.tensor(math.log(4)))
    torch.testing.assert_close(text_to_image, torch.tensor(math.log(4)))


def test_a_batch_of_one_class_has_no_wrong_pairs_and_no_loss():
    losses = matching_loss(torch.randn(4, 4), torch.zeros(4, dtype=torch.int64))
    assert [loss.item() for loss in losses] == [0.0, 0.0]


def test_gradients_are_finite_where_captions_are_padded_and_classes_are_masked():
    regions, words = torch.randn(3, 4, 9, requires_grad=True), torch.randn(3, 4, 5, requires_grad=True)
    losses = word_loss(regions, words, padding([1, 5, 2], 5), torch.tensor([0, 0, 1]), **GAMMAS)
    sum(losses).backward()
    assert regions.grad.isfinite().all() and words.grad.isfinite().all()
    assert (words.grad[0, :, 1:] == 0).all()
