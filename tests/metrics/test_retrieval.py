"""Retrieval figures on matrices made by hand."""

import pytest
import torch

from attngan.metrics.retrieval import draw_mismatches, others, r_precision, recall_at

PICTURES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])


def test_recall_counts_the_own_caption_among_the_best():
    sentences = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])  # the second and third are exchanged
    captions = ["one", "two", "three"]
    assert recall_at(PICTURES, sentences, captions, torch.arange(3), k=1) == pytest.approx(1 / 3)
    assert recall_at(PICTURES, sentences, captions, torch.arange(3), k=2) == 1.0


def test_an_equal_caption_of_another_picture_counts_as_right():
    sentences = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert recall_at(PICTURES, sentences, ["one", "same", "same"], torch.arange(3), k=1) == 1.0


def test_captions_of_the_own_class_are_no_wrong_answers():
    sentences = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert recall_at(PICTURES, sentences, ["one", "two", "three"], torch.tensor([0, 1, 1]), k=1) == 1.0
    assert recall_at(PICTURES, sentences, ["one", "two", "three"], torch.tensor([1, 1, 0]), k=1) == pytest.approx(1 / 3)


def test_r_precision_asks_whether_the_own_sentence_beats_the_wrong_ones():
    sentences = torch.tensor([[2.0, 0.1], [0.5, 0.5], [0.6, 0.8]])
    candidates = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    wrong = torch.tensor([[0], [0], [1]])
    assert r_precision(PICTURES, sentences, candidates, wrong).tolist() == [True, False, True]


def test_a_tie_is_no_find():
    assert r_precision(PICTURES[:1], PICTURES[:1], PICTURES[:1], torch.tensor([[0]])).tolist() == [False]


def test_mismatches_share_neither_class_nor_text():
    own = torch.tensor([[0, 10], [1, 11]])
    candidates = torch.tensor([[0, 12], [1, 10], [2, 13], [3, 14]])
    drawn = draw_mismatches(own, candidates, 2, torch.Generator().manual_seed(0))
    assert sorted(drawn[0].tolist()) == [2, 3]
    assert set(drawn[1].tolist()) <= {0, 2, 3} and len(set(drawn[1].tolist())) == 2
    with pytest.raises(ValueError, match="found 2 sentences of other classes, expected at least 3"):
        draw_mismatches(own[:1], candidates, 3, torch.Generator())


@pytest.mark.parametrize("period", [1, 2, 5, 8, 10, 500, 1000])
def test_another_caption_is_never_ones_own_however_often_it_comes(period):
    labels = torch.tensor([[number % period, number % period] for number in range(1000)])
    found = others(labels)
    if period == 1:
        assert found == list(range(1000))  # there is no other
    else:
        assert (labels[found] != labels).all()


def test_another_caption_is_of_another_class_and_text():
    labels = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 2]])
    assert others(labels) == [3, 3, 1, 1]


def test_another_caption_is_half_way_round_where_that_differs():
    labels = torch.arange(10)[:, None].repeat(1, 2)
    assert others(labels) == [5, 6, 7, 8, 9, 0, 1, 2, 3, 4]
