"""Figures in words."""

import pytest

from attngan.metrics import names


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("r_precision", "fits its caption (R-precision)"),
        ("r_precision_second_judge", "fits its caption (R-precision), by a second judge"),
        ("precision_damsm-5a00e006", "looks real (precision), by the encoders"),
        ("kid_inception-fid-6726825d", "distance from real pictures (KID), by Inception (of the published FIDs)"),
        ("kid_mobilenet-v2-b0353104", "distance from real pictures (KID), by MobileNetV2 (of ImageNet)"),
        ("fid_efficientnet-lite0-57934424", "distance from real pictures (FID), by EfficientNet-Lite0 (of ImageNet)"),
        ("near_copies_pixels", "near copies, by pixels"),
        ("clip_score_clip-1234abcd", "CLIP score"),
    ],
)
def test_a_name_in_words_says_what_is_measured_and_who_looks(name, title):
    assert names.words_of(name).title == title


def test_who_looks_is_said_in_words_or_by_its_name():
    assert names.eyes_of("mobilenet-v2-b0353104") == "MobileNetV2 (of ImageNet)"
    assert names.eyes_of("oracle-1234abcd") == "oracle-1234abcd"


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        *((name, True) for name in ("r_precision", "r_precision_second_judge", "body_colour", "kid_damsm-5a00e006")),
        *((name, True) for name in ("near_copies_pixels", "clip_score_clip-1234abcd", "fid_inception-fid-6726825d")),
        *((name, False) for name in ("kid", "r_precision_damsm-5a00e006", "beauty", "kid_oracle-1234abcd", "")),
        *((name, False) for name in ("r_precision_noise", "kid_damsm-5a00e006_blurred", "swap_pixels_other_caption")),
    ],
)
def test_figures_of_a_model_are_told_from_those_of_controls_and_from_none(name, is_one):
    assert names.is_of_a_model(name) == is_one


@pytest.mark.parametrize("otherwise", [True, False])
def test_which_of_two_figures_is_better_is_known_by_the_name(otherwise):
    for name in ("r_precision", "precision_damsm-5a00e006", "clip_score_clip-1234abcd"):
        assert names.is_higher_better(name, otherwise=otherwise)
    for name in ("kid_damsm-5a00e006", "fid_inception-fid-6726825d", "near_copies_pixels"):
        assert not names.is_higher_better(name, otherwise=otherwise)
    assert names.is_higher_better("contrast_pixels", otherwise=otherwise) == otherwise


def test_shares_are_read_as_per_cent_and_other_numbers_as_they_are():
    assert names.text_of("precision_damsm-5a00e006", 0.2886) == "28.9\u00a0%"
    assert names.text_of("kid_damsm-5a00e006", 0.05194) == "0.0519"


def test_a_name_that_nobody_gave_words_to_is_a_mistake_of_ours():
    with pytest.raises(KeyError, match="beauty"):
        names.words_of("beauty_damsm-5a00e006")
