"""What is trained on must not be what is tested on: finds train segments that are held out too.

Five ways in which a segment of train can be known from dev or test: the same recording, the same
audio under another name, the same speaker, the same text, and the same eight words in a row.

A short text is nobody's: "yes" and "thank you" are said everywhere, so texts count from four words,
or where they are long all the same. And two ways can be how the corpus is made: where more than
half of train has the speakers or the sentences of what is held out (one voice reads all of it, or
everybody reads one list), leaving that out would leave no corpus. It stays, and that is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from corpus import words
from corpus.sieve import BATCH_TEXTS, Sieve

RECORDING, AUDIO = "same recording", "same audio"
SPEAKER, TEXT, WORDS = "same speaker", "same text", "same run of 8 words"

MIN_WORDS = 4
MIN_LETTERS = 16
"""A text of fewer words counts from here, a letter of Chinese, Japanese or Korean as two."""

RUN_WORDS = 8
RUN_LETTERS = 20
"""In a row, in scripts that do not write spaces between words."""

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
        self.runs: dict[int, str] = {}
        texts = []
        for item in held_out:
            self.recordings.setdefault(item.recording, item.id)
            if item.audio is not None:
                self.audio.setdefault(item.audio, item.id)
            if item.speaker is not None:
                self.speakers.setdefault(item.speaker, item.id)
            texts.append(words.plain(item.text))
            units = words.units(texts[-1])
            if _counts(units):
                self.texts.setdefault(" ".join(units), item.id)
            for run in _runs(units):
                self.runs.setdefault(run, item.id)
        self.sieve = Sieve(texts, RUN_WORDS)

    def find(self, items: Sequence[Known]) -> Iterator[Leak]:
        """All that segments of train share with what is held out, one leak of each kind."""
        texts = [words.plain(item.text) for item in items]
        for item, text, may_know in zip(items, texts, self.sieve.may_know(texts), strict=True):
            segment, recording, speaker, audio, _ = item
            if recording in self.recordings:
                yield Leak(segment, RECORDING, self.recordings[recording])
            if audio is not None and audio in self.audio:
                yield Leak(segment, AUDIO, self.audio[audio])
            if speaker is not None and speaker in self.speakers:
                yield Leak(segment, SPEAKER, self.speakers[speaker])
            if may_know:
                yield from self._find_text(segment, words.units(text))

    def _find_text(self, segment: str, units: Sequence[str]) -> Iterator[Leak]:
        if (text := " ".join(units)) in self.texts:
            yield Leak(segment, TEXT, self.texts[text])
        else:
            held = (self.runs[run] for run in _runs(units) if run in self.runs)
            yield from (Leak(segment, WORDS, item) for item in islice(held, 1))


def find_leaks(train: Iterable[Known], held_out: Iterable[Known]) -> Found:
    """Each segment of train that is known from what is held out, with the first reason."""
    index = Index(held_out)
    found: list[Leak] = []
    size = 0
    items = iter(train)
    while some := list(islice(items, BATCH_TEXTS)):
        found += index.find(some)
        size += len(some)
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


def _counts(units: Sequence[str]) -> bool:
    """Whether a text is long enough to be told from what anybody might say."""
    if len(units) >= MIN_WORDS and len(units[0]) > 1:
        return True
    letters = "".join(units)
    return sum(2 if character >= "\u2e80" else 1 for character in letters) >= MIN_LETTERS


def _runs(units: Sequence[str]) -> Iterator[int]:
    """Hashes of all runs of eight words, or of twenty letters."""
    are_letters = len("".join(units)) == len(units)
    size = RUN_LETTERS if are_letters else RUN_WORDS
    return map(hash, zip(*[units[start:] for start in range(size)], strict=False))
