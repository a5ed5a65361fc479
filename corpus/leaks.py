"""What is trained on must not be what is tested on: finds train segments that are held out too.

Five ways in which a segment of train can be known from dev or test: the same recording, the same
audio under another name, the same speaker, the same text, and the same eight words in a row.

A short text is nobody's: "yes" and "thank you" are said everywhere, so texts count from four words,
or where they are long all the same. And two ways can be how the corpus is made: where more than
half of train has the speakers or the sentences of what is held out (one voice reads all of it, or
everybody reads one list), leaving that out would leave no corpus. It stays, and that is told.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

RECORDING, AUDIO = "same recording", "same audio"
SPEAKER, TEXT, WORDS = "same speaker", "same text", "same run of 8 words"

MIN_WORDS = 4
MIN_LETTERS = 16
"""A text of fewer words counts from here, a letter of Chinese, Japanese or Korean as two."""

NGRAM_WORDS = 8
NGRAM_LETTERS = 20
"""In a row, in scripts that do not write spaces between words."""
LETTERS_PER_WORD = 15
"""Mean length of "words" from which a text has none: German and Finnish stay below."""

MAX_SHARE = 0.5
"""Of train. Above, speakers or sentences are shared by design."""


class Known(NamedTuple):
    """A segment of train or of what is held out, by all that could give it away.

    `audio` is anything that equal audio has in common, such as a hash of the file; None or an empty
    text match nothing.
    """

    id: str
    recording: str
    speaker: str | None
    audio: object
    text: str


class Leak(NamedTuple):
    """A segment of train, what it shares with a held-out one, and which."""

    segment: str
    why: str
    held_out: str


class Found(NamedTuple):
    """What has to be left out of train, and lines about what is shared by design."""

    leaks: list[Leak]
    shared: list[str]


class Index:
    """What is held out, to be looked up."""

    def __init__(self, held_out: Iterable[Known]) -> None:
        self.recordings: dict[str, str] = {}
        self.audio: dict[object, str] = {}
        self.speakers: dict[str, str] = {}
        self.texts: dict[str, str] = {}
        self.grams: dict[int, str] = {}
        for item in held_out:
            self.recordings.setdefault(item.recording, item.id)
            if item.audio is not None:
                self.audio.setdefault(item.audio, item.id)
            if item.speaker is not None:
                self.speakers.setdefault(item.speaker, item.id)
            units = _units(item.text)
            if _counts(units):
                self.texts.setdefault(" ".join(units), item.id)
            for gram in _grams(units):
                self.grams.setdefault(gram, item.id)

    def find(self, item: Known) -> list[Leak]:
        """All that a segment of train shares with what is held out, one leak of each kind."""
        found = []
        if item.recording in self.recordings:
            found.append((RECORDING, self.recordings[item.recording]))
        if item.audio is not None and item.audio in self.audio:
            found.append((AUDIO, self.audio[item.audio]))
        if item.speaker is not None and item.speaker in self.speakers:
            found.append((SPEAKER, self.speakers[item.speaker]))
        units = _units(item.text)
        text = " ".join(units)
        if text in self.texts:
            found.append((TEXT, self.texts[text]))
        elif not self.grams.keys().isdisjoint(_grams(units)):
            found.append((WORDS, next(self.grams[g] for g in _grams(units) if g in self.grams)))
        return [Leak(item.id, why, held) for why, held in found]


def find_leaks(train: Iterable[Known], held_out: Iterable[Known]) -> Found:
    """Each segment of train that is known from what is held out, with the first reason."""
    index = Index(held_out)
    found: list[Leak] = []
    size = 0
    for item in train:
        found += index.find(item)
        size += 1
    shared = []
    for kinds, what in (((SPEAKER,), "speakers"), ((TEXT, WORDS), "sentences")):
        count = sum(leak.why in kinds for leak in found)
        if count > MAX_SHARE * size:
            found = [leak for leak in found if leak.why not in kinds]
            shared.append(
                f"{count / size:.0%} of train has the {what} of dev and test; kept, so what "
                f"is measured there holds for known {what} only"
            )
    first: dict[str, Leak] = {}
    for leak in found:
        first.setdefault(leak.segment, leak)
    return Found(list(first.values()), shared)


def counts(leaks: Iterable[Leak]) -> dict[str, int]:
    """How many leaks there are of each kind."""
    return dict(sorted(Counter(leak.why for leak in leaks).items()))


@cache
def _words() -> re.Pattern[str]:
    """Finds words: marks belong to them, spaces, punctuation and symbols do not."""
    # `re` looks these up in a table, but goes through what is beyond one by one: pictographs alone.
    plane = (chr(code) for code in range(0x10000))
    apart = "".join(re.escape(one) for one in plane if unicodedata.category(one)[0] in "PSZ")
    return re.compile(rf"[^\s{apart}\U0001f000-\U0001faff]+")


APOSTROPHES = "'\u2019\u02bc"
"""Typed in several ways, so left out."""


def _units(text: str) -> list[str]:
    """The words of a text, or its letters where it has no spaces between words."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    if not text.isprintable():  # controls and marks of direction
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    for apostrophe in APOSTROPHES:
        text = text.replace(apostrophe, "")
    words: list[str] = _words().findall(text)
    if len(text) > LETTERS_PER_WORD * len(words) + len(words):
        return list("".join(words))
    return words


def _counts(units: Sequence[str]) -> bool:
    """Whether a text is long enough to be told from what anybody might say."""
    if len(units) >= MIN_WORDS and len(units[0]) > 1:
        return True
    letters = "".join(units)
    return sum(2 if character >= "\u2e80" else 1 for character in letters) >= MIN_LETTERS


def _grams(units: Sequence[str]) -> Iterator[int]:
    """Hashes of all runs of eight words, or of twenty letters."""
    are_letters = len("".join(units)) == len(units)
    size = NGRAM_LETTERS if are_letters else NGRAM_WORDS
    return map(hash, zip(*[units[start:] for start in range(size)], strict=False))
