"""How texts are written: tags, letters, case, punctuation, digits, apostrophes.

Sources write the same words in different ways, and a model that is trained on two conventions
learns neither. Nothing here changes a text for that. `survey` measures how one source writes,
`odd_letters` finds what is outside its alphabet, and `differences` says where two sources
disagree, so that people can choose.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from corpus.text import JOINERS

UNCLEAR = "unclear"
"""The tag of spontaneous speech for words that could not be understood."""

_DIGIT = re.compile(r"\d")
_TAG = re.compile(r"\[([^\W\d_][\w -]{0,30})\]")
_TAG_AND_SPACE = re.compile(rf"\s*{_TAG.pattern}")

MAIN_SCRIPT_SHARE = 0.05
"""Of all letters: a script with less is foreign. Japanese and Serbian have more than one."""

RARE_LETTER_SHARE = 1e-4
"""Of the letters of a script: rarer ones are told as odd. Czech ď has some 2e-4, q 1e-5."""

LARGE_ALPHABET = 150
"""Scripts with more letters than this (Han, Hangul) have rare ones by nature."""

DIFFERENT_SHARE = 0.3
"""Of lines: two sources this far apart write differently."""

SHOWN = 8
"""Characters or tags that a note names."""
EXAMPLES = 3
EXAMPLE_CHARACTERS = 60

_LINE_ENDS = tuple(".!?…。！？؟।॥։።\"'”’»)]」』")
_APOSTROPHES = {"'": "'", "\u2019": "’ (U+2019)", "\u02bc": "ʼ (U+02BC)", "`": "` (U+0060)"}
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019\u02bc`](?=\w)")


def strip_tags(text: str) -> tuple[str, tuple[str, ...]]:
    """A text without tags such as [disfluency] or [noise], and the tags, in lower case.

    A full stop after a tag moves to the word before; words on both sides stay apart.
    """
    tags = tuple(tag.lower() for tag in _TAG.findall(text))
    return (" ".join(_TAG_AND_SPACE.sub(_gap, text).split()) if tags else text), tags


def _gap(tag: re.Match[str]) -> str:
    following = tag.string[tag.end() : tag.end() + 1]
    return " " if following.isalnum() else ""


@dataclass
class Survey:
    """How the texts of one source are written. Counts are of lines unless they say otherwise."""

    lines: int = 0
    cased: int = 0
    """Lines in a script that has capitals, and of these:"""
    capitals: int = 0
    """lines with one."""
    punctuated: int = 0
    """Lines that end in a punctuation mark."""
    digits: int = 0
    tags: Counter[str] = field(default_factory=Counter)
    """Such as [noise], by name; counts are of tags."""
    apostrophes: Counter[str] = field(default_factory=Counter)
    """Apostrophes inside words, by character."""
    characters: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The first lines that have a character."""

    def shares(self) -> dict[str, float]:
        """What can be compared between sources: share of lines by property."""
        lines = max(1, self.lines)
        shares = {"end in punctuation": self.punctuated / lines, "have digits": self.digits / lines}
        if 2 * self.cased > lines:
            shares["have capitals"] = self.capitals / self.cased
        return shares


def survey(texts: Iterable[str]) -> Survey:
    """Measure how texts are written, in one pass."""
    found = Survey()
    shown: set[str] = set()  # characters with examples enough
    for text in texts:
        found.lines += 1
        found.characters.update(text)
        lower = text.lower()
        if text.upper() != lower:
            found.cased += 1
            found.capitals += text != lower
        found.punctuated += text.endswith(_LINE_ENDS)
        found.digits += _DIGIT.search(text) is not None
        found.apostrophes.update(_APOSTROPHE.findall(text))
        found.tags.update(tag.lower() for tag in _TAG.findall(text))
        for character in set(text) - shown:
            found.examples[character].append(text)
            if len(found.examples[character]) == EXAMPLES:
                shown.add(character)
    return found


def script(letter: str) -> str:
    """The script of a letter, as the first word of its Unicode name: LATIN, CYRILLIC, CJK."""
    return unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]


def odd_letters(found: Survey) -> dict[str, int]:
    """Letters outside the alphabet that the texts are mostly written in, with their counts.

    Those of other scripts, and the rarest of its own; upper and lower case are one letter.
    """
    letters: Counter[str] = Counter()
    for character, count in found.characters.items():
        if unicodedata.category(character).startswith("L"):
            letters[character.lower()] += count
    scripts: dict[str, Counter[str]] = defaultdict(Counter)
    for letter, count in letters.items():
        scripts[script(letter)][letter] = count
    odd: dict[str, int] = {}
    for members in scripts.values():
        total = members.total()
        if total < MAIN_SCRIPT_SHARE * letters.total():
            odd |= members
        elif len(members) <= LARGE_ALPHABET:
            odd |= {x: n for x, n in members.items() if n < RARE_LETTER_SHARE * total}
    return dict(sorted(odd.items(), key=lambda item: (-item[1], item[0])))


def removed_characters(texts: Iterable[str]) -> dict[str, int]:
    """Controls and other invisible characters that `clean_transcript` takes out, with counts."""
    counts: Counter[str] = Counter()
    for text in texts:
        if not text.isprintable():
            counts.update(text)
    return {
        character: count
        for character, count in counts.items()
        if unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co"}
        and not character.isspace()
        and character not in JOINERS
    }


def odd_notes(found: Survey) -> list[str]:
    """Lines that tell of letters outside the alphabet and of mixed apostrophes."""
    notes = []
    odd = odd_letters(found)
    if odd:
        letters = sum(
            n for c, n in found.characters.items() if unicodedata.category(c).startswith("L")
        )
        shown = ", ".join(f"{name(c)} {n}" for c, n in list(odd.items())[:SHOWN])
        more = f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else ""
        lines = {text: None for c in odd for case in {c, c.upper()} for text in _lines(found, case)}
        notes.append(
            f"{sum(odd.values())} of {letters} letters ({sum(odd.values()) / letters:.3%}) are "
            f"outside the alphabet of the rest: {shown}{more}; such as "
            + "; ".join(_shortened(text) for text in list(lines)[:EXAMPLES])
        )
    if len(found.apostrophes) > 1:
        kinds = ", ".join(f"{_APOSTROPHES[c]} {n}" for c, n in found.apostrophes.most_common())
        notes.append(f"apostrophes are written in different ways: {kinds}")
    if found.tags:
        kinds = ", ".join(f"[{tag}] {n}" for tag, n in found.tags.most_common(SHOWN))
        notes.append(f"texts have tags, which a model learns to write: {kinds}")
    return notes


def removed_notes(texts: Iterable[str]) -> list[str]:
    """A line that tells of invisible characters that are taken out of texts."""
    removed = Counter(removed_characters(texts))
    if not removed:
        return []
    shown = ", ".join(f"{name(c)} {n}" for c, n in removed.most_common(SHOWN))
    return [f"invisible characters were taken out: {shown}"]


def _lines(found: Survey, character: str) -> list[str]:
    return found.examples.get(character, [])


def _shortened(text: str) -> str:
    long = len(text) > EXAMPLE_CHARACTERS
    return f"«{text[:EXAMPLE_CHARACTERS]}{'…' if long else ''}»"


def differences(new: Survey, rest: Survey) -> list[str]:
    """Lines for what a source writes otherwise than the rest of the corpus."""
    if not new.lines or not rest.lines:
        return []
    ours, theirs = new.shares(), rest.shares()
    notes = [
        f"{ours[what]:.0%} of its lines {what}, elsewhere in this workspace {theirs[what]:.0%}"
        for what in ours
        if what in theirs and abs(ours[what] - theirs[what]) >= DIFFERENT_SHARE
    ]
    usual = [s.apostrophes.most_common(1)[0][0] if s.apostrophes else None for s in (new, rest)]
    if None not in usual and usual[0] != usual[1]:
        written = [_APOSTROPHES[str(mark)] for mark in usual]
        notes.append(f"its apostrophe is {written[0]}, elsewhere {written[1]}")
    return notes


def name(character: str) -> str:
    """A character as people can tell it from look-alikes: itself and its code point."""
    shown = character if character.isprintable() else ""
    return f"{shown} (U+{ord(character):04X})".strip()
