"""Captions: text -> tokens -> Vocabulary -> padded word ids, with the tokeniser of the released AttnGAN.

`words_of` reads all text, so that a sentence is drawn with the words that were learnt; `tokenize` reads CUB's captions,
as the released code does.
"""

import difflib
import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from attngan.errors import InputError
from attngan.storage import artifacts, json_text

if TYPE_CHECKING:
    from nltk.tokenize import RegexpTokenizer

LETTER = "\u00e9"  # stands for every letter that is not ASCII
SPELT_OUT = {  # letters that are no base letter with an accent, in small ASCII letters
    **dict(zip("\u00df\u00e6\u0153\u00fe", ("ss", "ae", "oe", "th"), strict=True)),  # sharp s, ae, oe, thorn
    **dict(zip("\u00f8\u0142\u0111\u00f0\u0127\u0167", "olddht", strict=True)),  # with a stroke, and eth
    **dict(zip("\u0131\u014b\u0259", "ine", strict=True)),  # dotless i, eng, schwa
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey", "gray")
SPELLINGS = {"gray": "grey"}  # of one colour
FUNCTION_WORDS = frozenset(  # that say nothing of a picture by themselves
    "a an the this that these those and or but with without of on in at to by for from as into over under near next "
    "is are was be being been has have having it its their his her he she they there which who while very some".split()
)
NEAR_SOUGHT = 20  # unknown words; each costs a look at every known one
END = "<end>"  # index 0, which is also the padding; no token can be it, since < is no word character


@cache
def _tokenizer() -> "RegexpTokenizer":
    from nltk.tokenize import RegexpTokenizer  # a second to import, and training needs no tokeniser

    return RegexpTokenizer(r"\w+")


def tokenize(text: str) -> list[str]:
    r"""Split a caption into words as the released code does.

    Lower case; a doubled U+FFFD, which stands where a space was, becomes a space; words are `\w+`; characters that are
    not ASCII are dropped, and so are words that consist of nothing else.
    """
    text = text.replace("\ufffd\ufffd", " ").lower()
    if not text.isascii():
        text = "".join(character if character.isascii() else _stand_in(character) for character in text)
    words = (word.replace(LETTER, "") for word in _tokenizer().tokenize(text))
    return [word for word in words if word]


def _stand_in(character: str) -> str:
    """Return what a character that is going to be dropped does to its word: a letter or digit joins, all else splits.

    So says the `re` of the released code; later nltk uses another engine, to which accents are word characters too.
    """
    return LETTER if character.isalnum() else " "


def words_of(text: str) -> list[str]:
    """Split text into words as `tokenize` does, once its letters are those from a to z."""
    return tokenize(without_accents(text))


def without_accents(text: str) -> str:
    """Return text in small letters, each Latin one without its accents or spelt out: an umlaut is its vowel.

    Composed and decomposed forms become the same. What has no such form, such as letters of other scripts, stays.
    """
    text = text.lower()
    if text.isascii():
        return text
    plain = ""
    for character in unicodedata.normalize("NFD", text):
        is_accent = unicodedata.combining(character) and plain[-1:].isalnum()
        plain += "" if is_accent else _plain_letter(character)
    return plain


def _plain_letter(character: str) -> str:
    if character.isascii() or not character.isalnum():
        return character
    parts = unicodedata.normalize("NFKD", SPELT_OUT.get(character, character)).lower()  # of a ligature, say
    letters = "".join(part for part in parts if not unicodedata.combining(part))
    return letters if letters.isascii() and letters.isalnum() else character


def written_words(text: str) -> list[tuple[str, list[str]]]:
    """Return each word and each run of symbols such as emoji as it is written, and the tokens that it becomes.

    All tokens together are those of `words_of`; what becomes none is of letters, or symbols, that are not ASCII. Marks
    and joiners belong to what they follow, so that a joiner splits tokens and not the word.
    """
    found: list[tuple[str, list[str]]] = []
    kind, start = "", 0
    for place, character in enumerate([*text, " "]):
        following = _kind(character) or kind
        if following != kind:
            if kind.strip():
                found.append((text[start:place], words_of(text[start:place])))
            kind, start = following, place
    return found


def _kind(character: str) -> str:
    """Return what a character is part of: a word, a symbol, what stands between (" "), or ("") what it follows."""
    if character == "_" or character.isalnum():
        return "word"
    if character.isascii() or character == "\ufffd":
        return " "
    category = unicodedata.category(character)
    if category[0] == "M" or category in ("Cf", "Sk"):
        return ""
    return "symbol" if category == "So" else " "


def read_otherwise(texts: Iterable[str]) -> dict[str, str]:
    """Return each word with letters that are not ASCII, in small letters, with what is read of it: "" for nothing."""
    return {
        unicodedata.normalize("NFC", word).lower(): " ".join(tokens)
        for text in texts
        if not text.isascii()
        for word, tokens in written_words(text)
        if any(letter.isalnum() and not letter.isascii() for letter in unicodedata.normalize("NFC", word))
    }


class Vocabulary:
    """The words a model knows; a word's place in the list is its id.

    Args:
        words: unique, the first one `<end>`.
    """

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        if not self.words or self.words[0] != END:
            found = repr(self.words[0]) if self.words else "nothing"
            raise InputError(f"vocabulary: expected {END!r} as the first word, found {found}.")
        self._ids = {word: index for index, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            twice = next(word for word, count in Counter(self.words).items() if count > 1)
            raise InputError(f"vocabulary: every word must stand in it once, found {twice!r} more often.")

    @classmethod
    def from_captions(cls, captions: Iterable[Sequence[str]], min_count: int = 1) -> "Vocabulary":
        """Collect the words that occur at least `min_count` times in tokenised captions, frequent ones first."""
        counts = Counter(word for tokens in captions for word in tokens)
        kept = [word for word, count in counts.items() if count >= min_count and word != END]
        return cls([END, *sorted(kept, key=lambda word: (-counts[word], word))])

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        words = json_text.read(path, list[Annotated[str, Field(min_length=1)]], expected="a JSON list of words")
        try:
            return cls(words)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def save(self, path: Path) -> None:
        """Write the words as a JSON list."""
        artifacts.write_json(path, self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return self._ids.get(word, 0) > 0

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Return the ids of the known words, in order; `unknown` names the others."""
        return [self._ids[word] for word in tokens if word in self]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Return the words of some ids."""
        return [self.words[index] for index in ids]

    @property
    def colours(self) -> list[str]:
        """The colour words among the words."""
        return [word for word in COLOURS if word in self]

    def other_colours(self, colour: str) -> list[str]:
        """Return the colour words among the words that name another colour than this one, each colour once."""
        by_colour = {SPELLINGS.get(word, word): word for word in reversed(self.colours)}
        by_colour.pop(SPELLINGS.get(colour, colour), None)
        return [word for word in self.colours if word in by_colour.values()]

    def unknown(self, tokens: Iterable[str]) -> dict[str, str | None]:
        """Return each word that is not known, with the nearest known one, or None where none is near.

        Of the first `NEAR_SOUGHT` only, so that a long text does not take minutes; None for the others.
        """
        near: dict[str, str | None] = {}
        for word in tokens:
            if word not in self and word not in near:
                is_sought = len(near) < NEAR_SOUGHT
                matches = difflib.get_close_matches(word, self.words[1:], n=1) if is_sought else []
                near[word] = matches[0] if matches else None
        return near


def colours_before(captions: Iterable[Sequence[str]]) -> dict[str, set[str]]:
    """Return for each word of some tokenised captions the colours that stand right before it."""
    found: dict[str, set[str]] = {}
    for tokens in captions:
        for word, following in itertools.pairwise(tokens):
            if word in COLOURS:
                found.setdefault(following, set()).add(SPELLINGS.get(word, word))
    return found


def pad(ids: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Stack captions of different lengths.

    Args:
        ids: word ids of B captions.

    Returns:
        word_ids (B, T) int64, filled up with 0 (T is the length of the longest, at least 1), and lengths (B,) int64.
    """
    longest = max((len(caption) for caption in ids), default=0)
    word_ids = np.zeros((len(ids), max(1, longest)), dtype=np.int64)
    for row, caption in zip(word_ids, ids, strict=True):
        row[: len(caption)] = caption
    return torch.from_numpy(word_ids), torch.tensor([len(caption) for caption in ids], dtype=torch.int64)
