"""Tells, of thousands of texts at once, which cannot share their words with some known ones.

To look a million texts up word by word takes many seconds; this takes one. Texts lie end to end in
one array of characters, and a rolling hash (Karp and Rabin 1987) is taken of every word, then of
the words of every run and every text. The hashes of known texts are ticked in a table. What falls
on no tick is not known; what falls on one, by chance or not, is looked up among the hashes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from corpus.words import LETTERS_PER_WORD, apart

Hashes = NDArray[np.uint64]

BASE = 0x9E3779B97F4A7C15
"""Of the rolling hash, modulo 2^64; odd, so that it has an inverse."""

TABLE_BITS = 24
"""Of a hash, as many as say where its tick is: one tick in 200 is hit by chance at 80,000."""

BATCH_TEXTS = 1000
"""At a time, so that their characters stay in the processor's cache."""

LAST = (1 << 64) - 1
"""Ends the hashes, so that there is one at or after any other."""

END = "\0"  # a control, which no plain text has


class Sieve:
    """Known texts, by their words and by all runs of `run_words` words in them.

    Args:
        texts: plain ones, as all that are asked about.
    """

    def __init__(self, texts: Sequence[str], run_words: int) -> None:
        self.run_words = run_words
        hashes = [np.array([LAST], np.uint64)]
        for start in range(0, len(texts), BATCH_TEXTS):
            words = _Words(texts[start : start + BATCH_TEXTS])
            hashes += [words.texts(), words.runs(run_words)[0]]
        self.hashes = np.unique(np.concatenate(hashes))
        self.ticks = np.zeros(1 << TABLE_BITS, bool)
        self.ticks[_places(self.hashes)] = True

    def may_know(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text could be a known one or could have a run of words of one.

        Never false where it is or has; always true where letters and not words are compared.
        """
        words = _Words(texts)
        found = self._know(words.texts()) | words.are_letters()
        runs, of_text = words.runs(self.run_words)
        found[of_text[self._know(runs)]] = True
        return found.tolist()

    def _know(self, hashes: Hashes) -> NDArray[np.bool_]:
        found = self.ticks[_places(hashes)]
        ticked = hashes[found]
        found[found] = self.hashes[np.searchsorted(self.hashes, ticked)] == ticked
        return found


class _Words:
    """The words of some plain texts: their hashes, and the text that each is in."""

    def __init__(self, texts: Sequence[str]) -> None:
        whole = END.join([*texts, ""]).encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(whole, "<u4")
        is_word = ~apart()[codes]
        is_end = codes == ord(END)
        is_word[is_end] = False
        edges = np.flatnonzero(np.diff(is_word, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        self.ends = np.flatnonzero(is_end)
        self.letters = ends - starts
        self.of_text = np.searchsorted(self.ends, starts)
        self.hashes = _span_hashes(codes, starts, ends)
        # Where the words of each text begin, with the end of the last.
        self.bounds = np.searchsorted(starts, np.concatenate([[0], self.ends]))

    def texts(self) -> Hashes:
        """A hash of all words of each text."""
        return _span_hashes(self.hashes, self.bounds[:-1], self.bounds[1:])

    def runs(self, size: int) -> tuple[Hashes, NDArray[np.intp]]:
        """Hashes of all runs of so many words, and the text of each."""
        starts = np.arange(max(0, self.hashes.size - size + 1))
        starts = starts[self.of_text[starts] == self.of_text[starts + size - 1]]
        return _span_hashes(self.hashes, starts, starts + size), self.of_text[starts]

    def are_letters(self) -> NDArray[np.bool_]:
        """Whether each text has no words: long stretches without a space, or single letters."""
        count = np.diff(self.bounds)
        letters = np.bincount(self.of_text, self.letters, count.size)
        length = np.diff(self.ends, prepend=-1) - 1
        return (length > LETTERS_PER_WORD * count + count) | (letters == count)


def _span_hashes(
    values: NDArray[np.uint32] | Hashes, starts: NDArray[np.intp], ends: NDArray[np.intp]
) -> Hashes:
    """A hash of values[start:end] for each start and end; equal values have equal ones."""
    powers, inverses = _powers(1 << values.size.bit_length())
    sums = np.zeros(values.size + 1, np.uint64)
    np.cumsum(values * powers[: values.size], out=sums[1:])
    found: Hashes = (sums[ends] - sums[starts]) * inverses[starts]
    return found


@cache
def _powers(count: int) -> tuple[Hashes, Hashes]:
    """The powers of the base and of its inverse."""
    inverse = pow(BASE, -1, 1 << 64)
    return (
        np.cumprod(np.full(count, BASE, np.uint64), dtype=np.uint64),
        np.cumprod(np.full(count, inverse, np.uint64), dtype=np.uint64),
    )


def _places(hashes: Hashes) -> NDArray[np.uint64]:
    # The upper bits depend on all of a sum's, the lower on few.
    return hashes >> np.uint64(64 - TABLE_BITS)
