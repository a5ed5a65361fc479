"""The words of a text, as those who look for the same words elsewhere count them.

Case, punctuation, apostrophes and the ways to encode a letter do not matter; marks do, since in
many scripts they tell words apart.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

LETTERS_PER_WORD = 15
"""Mean length of "words" from which a text has none: German and Finnish stay below."""

APOSTROPHES = "'\u2019\u02bc"
"""Typed in several ways, so left out."""


def plain(text: str) -> str:
    """A text in one case and encoding, without apostrophes, controls and marks of direction."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    text = text.casefold()
    if not text.isprintable():
        text = "".join(c for c in text if c.isspace() or unicodedata.category(c)[0] != "C")
    for apostrophe in APOSTROPHES:
        text = text.replace(apostrophe, "")
    return text


def units(text: str) -> list[str]:
    """The words of a plain text, or its letters where it has no spaces between words."""
    words: list[str] = _words().findall(text)
    if len(text) > LETTERS_PER_WORD * len(words) + len(words):
        return list("".join(words))
    return words


@cache
def apart() -> NDArray[np.bool_]:
    """Which characters are no part of words, by code point: spaces, punctuation and symbols."""
    found = np.zeros(0x110000, bool)
    # Beyond this plane there are pictographs, and little else that is no letter.
    plane = map(chr, range(0x10000))
    found[:0x10000] = [unicodedata.category(one)[0] in "PSZ" or one.isspace() for one in plane]
    found[0x1F000:0x1FB00] = True
    return found


@cache
def _words() -> re.Pattern[str]:
    # `re` looks the first plane up in a table, but goes through what is beyond one by one.
    plane = "".join(map(chr, np.flatnonzero(apart()[:0x10000])))
    return re.compile(rf"[^{re.escape(plane)}\U0001f000-\U0001faff]+")
