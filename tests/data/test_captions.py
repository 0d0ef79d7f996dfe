import re
import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attngan.data.captions import (
    NEAR_SOUGHT,
    SPELT_OUT,
    Vocabulary,
    pad,
    read_otherwise,
    tokenize,
    without_accents,
    words_of,
    written_words,
)
from attngan.errors import InputError


def test_words_are_lower_case_runs_of_letters_digits_and_underscores():
    assert tokenize("This bird's 2 wing-bars are Black, yellow_ish!") == [
        *("this", "bird", "s", "2", "wing", "bars", "are", "black", "yellow_ish"),
    ]


def test_a_doubled_replacement_character_separates_words_and_so_does_a_single_one():
    assert tokenize("a black\ufffd\ufffdbird") == ["a", "black", "bird"]
    assert tokenize("a black\ufffdbird") == ["a", "black", "bird"]


def test_characters_that_are_not_ascii_are_dropped_from_within_words():
    assert tokenize("caf\u00e9 na\u00efve \u9e1f \U0001f426 bird") == ["caf", "nave", "bird"]


def test_an_accent_of_its_own_splits_a_word_and_a_letter_with_an_accent_does_not():
    assert tokenize("caf\u00e9s") == ["cafs"]
    assert tokenize("cafe\u0301s") == ["cafe", "s"]


@pytest.mark.parametrize("text", ["", "   \n", "...!?", "\U0001f426\U0001f426", "\u9e1f"])
def test_a_text_without_usable_characters_has_no_words(text):
    assert tokenize(text) == []


@given(st.text())
def test_the_tokeniser_is_the_rule_of_the_released_code(text):
    found = re.findall(r"\w+", text.replace("\ufffd\ufffd", " ").lower())
    plain = [word.encode("ascii", "ignore").decode("ascii") for word in found]
    assert tokenize(text) == [word for word in plain if len(word) > 0]


@given(st.text())
def test_tokenising_the_joined_words_again_changes_nothing(text):
    words = tokenize(text)
    assert tokenize(" ".join(words)) == words


@given(st.text())
def test_written_words_become_the_tokens_of_the_whole_text(text):
    assert [token for _, tokens in written_words(text) for token in tokens] == words_of(text)


@given(st.text())
def test_composed_and_decomposed_text_has_the_same_words(text):
    assert words_of(unicodedata.normalize("NFC", text)) == words_of(unicodedata.normalize("NFD", text))


@given(st.text(st.characters(max_codepoint=127)))
def test_text_in_ascii_has_the_words_of_the_released_code(text):
    assert words_of(text) == tokenize(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ein gr\u00fcner Apfel f\u00fcr Gr\u00f6\u00dfe", "ein gruner apfel fur grosse"),
        ("une p\u00eache d\u00e9licieuse, na\u00efve", "une peche delicieuse naive"),
        ("\u00c6bler, R\u00f8d \u0141\u00f3d\u017a \u0130stanbul \u0131l\u0131k", "aebler rod lodz istanbul ilik"),
        ("GRO\u1e9e Vi\u1ec7t \ufb01n m\u00b2 \u01ff", "gross viet fin m2 o"),
        ("x\u030cy 1\ufe0f\u20e3bird", "xy 1 bird"),
        ("a black\ufffd\ufffdbird \u9e1fred \u0439red", "a black bird red red"),
        ("\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \U0001f34f\u2122 \u00bd", ""),
    ],
)
def test_letters_with_accents_are_read_as_those_from_a_to_z(text, words):
    assert words_of(text) == words.split()


def test_every_letter_that_is_spelt_out_is_so_in_capitals_too():
    for letter, spelt in SPELT_OUT.items():
        assert words_of(f"a{letter}b") == [f"a{spelt}b"]
        assert words_of(f"a{letter}b".upper()) == [f"a{spelt}b"] or letter == "\u0131", "whose capital is I"


def test_what_is_read_otherwise_than_it_is_written_is_told_once():
    texts = ["a red wing\u2019s tip", "Gru\u0308ner gr\u00fcner \u9e1f \u9e1fred \U0001f426", "\u9e1f"]
    assert read_otherwise(texts) == {"gr\u00fcner": "gruner", "\u9e1f": "", "\u9e1fred": "red"}


def test_words_keep_their_letters_as_written_and_symbols_stand_alone():
    assert written_words(
        "Die R\u00e4dern, cafe\u0301s: \u9e1f\u9e1f \u201cred\u201d \U0001f426\U0001f426 wing-bars"
    ) == [
        *(("Die", ["die"]), ("R\u00e4dern", ["radern"]), ("cafe\u0301s", ["cafes"]), ("\u9e1f\u9e1f", [])),
        *(("red", ["red"]), ("\U0001f426\U0001f426", []), ("wing", ["wing"]), ("bars", ["bars"])),
    ]


def test_an_emoji_of_several_characters_is_one_symbol():
    emoji = "\U0001f3c3\U0001f3fd\u200d\u2642\ufe0f"  # a runner, the colour of skin, a joiner, a sign, how to draw it
    assert written_words(f"a {emoji}bird") == [("a", ["a"]), (emoji, []), ("bird", ["bird"])]


def test_a_word_without_accents_is_in_small_letters_from_a_to_z_if_it_can_be():
    assert [without_accents(word) for word in ("R\u00e9d", "Stra\u00dfe", "\u9e1f")] == ["red", "strasse", "\u9e1f"]


def test_the_vocabulary_starts_with_the_end_word_and_puts_frequent_words_first():
    vocabulary = Vocabulary.from_captions([["red", "bird"], ["blue", "bird"]])
    assert vocabulary.words == ["<end>", "bird", "blue", "red"]
    assert len(vocabulary) == 4


def test_words_seen_too_rarely_stay_out_of_the_vocabulary():
    vocabulary = Vocabulary.from_captions([["red", "bird"], ["blue", "bird"]], min_count=2)
    assert vocabulary.words == ["<end>", "bird"]


def test_encoding_keeps_the_order_and_leaves_unknown_words_out():
    vocabulary = Vocabulary(["<end>", "red", "bird"])
    assert vocabulary.encode(["bird", "thcik", "red", "bird"]) == [2, 1, 2]


def test_the_end_word_is_never_encoded():
    assert Vocabulary(["<end>", "bird"]).encode(["<end>", "bird"]) == [1]


def test_unknown_words_are_named_once_with_the_nearest_known_one():
    vocabulary = Vocabulary(["<end>", "thick", "wingspan", "bird"])
    assert vocabulary.unknown(["thcik", "bird", "winspan", "thcik", "xylophone"]) == {
        "thcik": "thick",
        "winspan": "wingspan",
        "xylophone": None,
    }


def test_of_a_long_text_the_first_unknown_words_alone_are_looked_for():
    known = [f"word{number}" for number in range(200)]
    unknown = Vocabulary(["<end>", *known]).unknown([f"{word}x" for word in known])
    assert len(unknown) == 200
    assert [near is not None for near in unknown.values()] == [True] * NEAR_SOUGHT + [False] * (200 - NEAR_SOUGHT)


def test_a_saved_vocabulary_loads_as_it_was(tmp_path):
    Vocabulary(["<end>", "red", "bird"]).save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json").words == ["<end>", "red", "bird"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('["<end>", "red", "red"]', "found 'red' more often"),
        ('["red", "<end>"]', "expected '<end>' as the first word"),
        ("[]", "found nothing"),
        ('{"red": 1}', "expected a JSON list of words"),
        ('["<end>", 3]', "expected a JSON list of words"),
        ('["<end>", "re', "expected JSON"),
    ],
)
def test_a_damaged_vocabulary_is_refused_with_its_path(tmp_path, content, sentence):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(InputError, match=re.escape(sentence)) as caught:
        Vocabulary.load(path)
    assert str(path) in str(caught.value)


def test_padding_fills_up_with_zeros_to_the_longest():
    word_ids, lengths = pad([[3, 1], [2], [5, 6, 7]])
    torch.testing.assert_close(word_ids, torch.tensor([[3, 1, 0], [2, 0, 0], [5, 6, 7]]))
    torch.testing.assert_close(lengths, torch.tensor([2, 1, 3]))


def test_padding_a_single_caption_and_none_keeps_two_axes():
    assert pad([[4]])[0].shape == (1, 1)
    assert pad([])[0].shape == (0, 1)
