"""Numbers about a transcript, from which the verdict decides. Pure functions of texts.

What a label says is compared with what a model hears by one global alignment of characters, which
gives CER, the CER of the first and last characters, and what only one of the two has. A text alone
tells whether it loops, is in the language's script, or is what models write where nobody speaks.
Some 90 µs a segment, of which the alignment takes 20.
"""

import re
import tomllib
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import eq
from pathlib import Path
from typing import Any, cast

from rapidfuzz.distance import Levenshtein

from corpus.subtitles.clean import OWN_CREDITS, Credits, credits_for, read_own_credits
from corpus.text import base_language, normalise

HALLUCINATIONS_FILE = Path(__file__).with_name("hallucinations.toml")
OWN_HALLUCINATIONS = "hallucinations.txt"
"""Name of the list in a workspace: one phrase a line; # begins a comment."""

EDGE_CHARACTERS = 12
"""The beginning and the end of a text that have a CER of their own: some two words."""

CREDIT_CHARACTERS = 80
"""A longer text that begins like a credit is speech: "translated by the ribosome, it ..."."""

DIGIT_CHARACTERS = 14
"""A digit is spelled with so many characters at most; Finnish 77 takes 26 for two."""

LOOP_TIMES, LOOP_WORDS, LOOP_CHARACTERS = 4, 4, 12
"""A phrase of so many words (characters, where words are not told apart) so often in a row."""

FEW_WORDS, FEW_SHARE = 5, 0.4
"""Of so many words or more, so few are different ones in a text that goes round."""

LONG_WORD, LONG_COMPOUND = 25, 35
"""Characters of a word that nobody says; more where words are put together."""

_COMPOUNDING = (
    "az ba cv da de et eu fi fo hu is ka kk kl kn ky ml mn mr nl nn no qu sah se sv sw ta te tk "
    "tr tt ug uz xh zu"
)
"""Languages that write compounds or strings of endings as one word."""

_WRITTEN_IN = {
    "LATIN": "af az br bs ca ceb cs cy da de en eo es et eu fi fo fr fy ga gd gl gn ha haw hr "
    "hsb dsb ht hu ia id ig io is it jw kab ku la lb lg ln lt lv mg mi mt ms nl nn no nso ny oc "
    "pl pt qu rm rn ro rw sc sk sl sn so sq sr st su sv sw szl tk tl tn to tr ts tw uz vi vec vot "
    "wo xh yo zu",
    "CYRILLIC": "ab av az ba be bg bxr ce cv kbd kk kv ky mdf mhr mk mn mrj myv os ru rue sah sr "
    "tg tt tyv udm uk uz",
    "ARABIC": "ar arz ary az bal ckb fa ha ks ku ps sd skr ug ur",
    "DEVANAGARI": "bho brx doi gom hi hne kok ks mag mai mr ne sa sd",
    "BENGALI": "as bn mni",
    "HAN": "cdo hak ja ko nan wuu yue zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "BOPOMOFO": "zh",
    "ARMENIAN": "hy hyw",
    "ETHIOPIC": "am gez ti tig",
    "GEORGIAN": "ka xmf",
    "GREEK": "el grc",
    "GUJARATI": "gu",
    "GURMUKHI": "pa",
    "HEBREW": "he yi",
    "KANNADA": "kn tcy",
    "KHMER": "km",
    "LAO": "lo",
    "MALAYALAM": "ml",
    "MYANMAR": "my shn",
    "OL": "sat",
    "ORIYA": "or",
    "SINHALA": "si",
    "TAMIL": "ta",
    "TELUGU": "te",
    "THAANA": "dv",
    "THAI": "th",
    "TIBETAN": "bo dz",
    "TIFINAGH": "zgh",
}
"""Languages by the scripts that they are written in, named as Unicode's letters are."""

# Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese put no spaces between words.
_UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_UNSPACED_LETTER = re.compile(f"[{_UNSPACED}]")
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\W\d_{_UNSPACED}][^\s\d{_UNSPACED}]*")
_DIGIT = re.compile(r"\d")
_TOKEN = re.compile(rf" ?(?:\d[^\s{_UNSPACED}]*|[{_UNSPACED}]|[^\s\d{_UNSPACED}]+)")
_THOUSANDS = re.compile(r"(?<=\d) (?=\d{3}(?!\d))")
_WORD_LOOP = re.compile(rf"(?<!\S)((?:\S+ ){{1,{LOOP_WORDS}}}?)\1{{{LOOP_TIMES - 1},}}")
_CHARACTER_LOOP = re.compile(rf"(.{{2,{LOOP_CHARACTERS}}}?)\1{{{LOOP_TIMES - 1},}}")


Opcode = tuple[str, int, int, int, int]
"""equal, insert, delete or replace; spans [start, end) of the one and of the other."""


@dataclass(frozen=True, slots=True)
class Text:
    """A transcript as it is scored: kind, origin, the text, and what its model said of it."""

    id: int
    kind: str
    origin: str
    text: str
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A label against what is heard. Rates are edits by characters (words) of the label.

    `cer_head` and `cer_tail` are the edits in the first and last `EDGE_CHARACTERS`, divided by that
    number. `core_cer` leaves out what only one of the two has around its ends; that is `edges`, as
    a share of the longer text. `head_missing` and `tail_missing` say by how many characters the
    label is shorter there. `numbers` were written in digits by one of the two only, and are left
    out of all rates.
    """

    cer: float
    wer: float
    cer_head: float
    cer_tail: float
    ins_rate: float
    del_rate: float
    core_cer: float
    edges: float
    head_missing: int
    tail_missing: int
    numbers: int


def compare(label: str, heard: str) -> Comparison:
    """Compare two normalised texts of the same speech; of nothing and something all rates are 1.

    An alignment of the whole texts, not of their cut ends, so that a word that is missing at the
    beginning is counted once.
    """
    label, heard, numbers = _numbers_folded(label, heard)
    if label == heard:
        return Comparison(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, numbers)
    if not label or not heard:
        ins, dels = (1.0, 0.0) if heard else (0.0, 1.0)
        return Comparison(1.0, 1.0, 1.0, 1.0, ins, dels, 1.0, 0.0, 0, 0, numbers)
    size = len(label)
    window = min(EDGE_CHARACTERS, size // 2)
    edits = inserted = deleted = head = tail = head_missing = tail_missing = outer = cut = 0
    for tag, start, end, heard_start, heard_end in _opcodes(label, heard):
        if tag == "equal":
            continue
        length = heard_end - heard_start or end - start
        edits += length
        if tag == "insert":
            inserted += length
        elif tag == "delete":
            deleted += length
        at_head, at_tail = start < window, end > size - window
        if not (at_head or at_tail):
            continue
        if tag == "insert":
            head += length * at_head
            tail += length * at_tail
        else:
            head += max(0, min(end, window) - start)
            tail += max(0, end - max(start, size - window))
        if tag != "replace":
            outer += length
            cut += end - start
            missing = length if tag == "insert" else -length
            head_missing += missing * at_head
            tail_missing += missing * at_tail
    words = label.split()
    return Comparison(
        cer=edits / size,
        wer=Levenshtein.distance(words, heard.split()) / len(words),
        cer_head=head / EDGE_CHARACTERS,
        cer_tail=tail / EDGE_CHARACTERS,
        ins_rate=inserted / size,
        del_rate=deleted / size,
        core_cer=(edits - outer) / max(1, size - cut),
        edges=outer / max(size, len(heard)),
        head_missing=head_missing,
        tail_missing=tail_missing,
        numbers=numbers,
    )


def _opcodes(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Opcode]:
    """The steps of an alignment; as plain tuples, which are read in half the time."""
    steps: Any = Levenshtein.opcodes(one, other)
    return cast(list[Opcode], steps.as_list())


def _numbers_folded(label: str, heard: str) -> tuple[str, str, int]:
    """Both texts with one zero for each number that only one of them writes in digits.

    Where the alignment of words leaves a number in digits against words that may spell it, nobody
    can tell in all languages whether they do. Two numbers in digits stay, and have to be the same.
    """
    if not _DIGIT.search(label) and not _DIGIT.search(heard):
        return label, heard, 0
    one, other = (_TOKEN.findall(" " + _digits_folded(text)) for text in (label, heard))
    folded: tuple[list[str], list[str]] = ([], [])
    count = 0
    for a, b, c, d in _blocks(one, other):
        sides = (one[a:b], other[c:d])
        if sides[0] != sides[1]:
            written, spelled = _number(*sides), _number(sides[1], sides[0])
            if written is not None or spelled is not None:
                count += 1
            if written is not None:
                sides = written
            elif spelled is not None:
                sides = (spelled[1], spelled[0])
        folded[0].extend(sides[0])
        folded[1].extend(sides[1])
    return "".join(folded[0]).strip(), "".join(folded[1]).strip(), count


def _digits_folded(text: str) -> str:
    """Digits of every script as 0 to 9, and no space between thousands."""
    digits = (str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return _THOUSANDS.sub("", "".join(digits))


def _blocks(one: list[str], other: list[str]) -> list[list[int]]:
    """Spans [a, b) and [c, d) of two lists of words, equal and different in turn."""
    blocks: list[list[int]] = []
    was_equal = True
    for tag, a, b, c, d in _opcodes(one, other):
        if blocks and not was_equal and tag != "equal":
            blocks[-1][1], blocks[-1][3] = b, d
        else:
            blocks.append([a, b, c, d])
        was_equal = tag == "equal"
    return blocks


def _number(digits: list[str], words: list[str]) -> tuple[list[str], list[str]] | None:
    """Both sides with the number as zero, if `digits` has one that `words` may spell.

    Wrong words beside the number are taken to stand for one another, one by one.
    """
    where = [i for i, token in enumerate(digits) if _DIGIT.search(token)]
    if not where or any(_DIGIT.search(token) for token in words):
        return None
    before, end = where[0], len(words) - (len(digits) - where[-1] - 1)
    spelled = "".join(words[before:end]).replace(" ", "") if before < end else ""
    count = sum(map(str.isdecimal, "".join(digits[before : where[-1] + 1])))
    if not 0 < len(spelled) <= DIGIT_CHARACTERS * count:
        return None
    return (
        [*digits[:before], " 0", *digits[where[-1] + 1 :]],
        [*words[:before], " 0", *words[end:]],
    )


def find_loop(text: str) -> str | None:
    """How a normalised text repeats itself, in words, or None."""
    words = text.split()
    # Cheap, and passed by hardly any text: enough words that are the same as one shortly before.
    if any(
        sum(map(eq, words, words[size:])) >= size * (LOOP_TIMES - 1)
        for size in range(1, LOOP_WORDS + 1)
    ):
        found = _WORD_LOOP.search(text + " ")
        if found:
            return _times(found, text + " ")
    different = len(set(words))
    if len(words) >= FEW_WORDS and different <= FEW_SHARE * len(words):
        return f"{different} different words of {len(words)}"
    if _is_unspaced(text):
        joined = text.replace(" ", "")
        found = _CHARACTER_LOOP.search(joined)
        return _times(found, joined) if found else None
    return None


def _times(found: re.Match[str], text: str) -> str:
    count = (found.end() - found.start()) // len(found[1])
    return f"“{found[1].strip()}” {count} times in a row"


def find_long_word(text: str, language: str) -> str | None:
    """A word of a normalised text that is too long to be one, where words have spaces around."""
    longest = max(text.split(), key=len, default="")
    if len(longest) < LONG_WORD or _is_unspaced(text):
        return None
    limit = LONG_COMPOUND if base_language(language) in _COMPOUNDING.split() else LONG_WORD
    return longest if len(longest) >= limit else None


def _is_unspaced(text: str) -> bool:
    return not text.isascii() and _UNSPACED_LETTER.search(text) is not None


@lru_cache(maxsize=64)
def scripts_of(language: str) -> frozenset[str]:
    """The scripts of a language, named as Unicode's letters are; empty where it is not listed."""
    code = base_language(language)
    return frozenset(script for script, codes in _WRITTEN_IN.items() if code in codes.split())


@lru_cache(maxsize=65_536)
def _script(character: str) -> str:
    """LATIN, CYRILLIC, HAN ...; empty for what is no letter or of no script."""
    if not character.isalpha():
        return ""
    name = unicodedata.name(character, "").replace("-", " ").split(" ")[0]
    if name in {"", "MODIFIER", "COMBINING"}:
        return ""
    return "HAN" if name == "CJK" else name


def script_share(text: str, language: str) -> float | None:
    """The share of a normalised text's words that begin in a script of the language.

    Where words are not told apart, each character counts as one, and a word of another script among
    them as one too. None where there are no words, or the language's scripts are not known.
    """
    scripts = scripts_of(language)
    if not scripts:
        return None
    # Hardly any text has more than one script.
    used = {script for character in set(text) if (script := _script(character))}
    if used <= scripts or used.isdisjoint(scripts):
        return float(used <= scripts) if used else None
    found = [script for unit in _UNIT.findall(text) if (script := _script(unit[0]))]
    return sum(script in scripts for script in found) / len(found) if found else None


@dataclass(frozen=True)
class Phrases:
    """What is written where nobody speaks: credits, and (normalised) what models make up."""

    credits: Credits
    hallucinations: frozenset[str]

    def is_credit(self, text: str) -> bool:
        """Whether a text, as written, is nothing but who made the subtitles, or an address."""
        return 0 < len(text) <= CREDIT_CHARACTERS and self.credits.match(text, at_an_end=True)

    @cached_property
    def _beginnings(self) -> frozenset[str]:
        return frozenset(phrase.split()[0] for phrase in self.hallucinations)

    def is_hallucination(self, text: str) -> bool:
        """Whether a normalised text is one of the sentences, once or over and over."""
        words = text.split()
        return (
            bool(words)
            and words[0] in self._beginnings
            and any(
                " ".join(words[:size]) in self.hallucinations
                for size in range(1, len(words) + 1)
                if len(words) % size == 0 and words[:size] * (len(words) // size) == words
            )
        )


def phrases_for(language: str, workspace: Path | None = None) -> Phrases:
    """The phrases of a language, English ones, those of any, and a workspace's own.

    Raises:
        UserError: an own list cannot be read.
    """
    lists = tomllib.loads(HALLUCINATIONS_FILE.read_text(encoding="utf-8"))
    wanted = ("any", "en", base_language(language))
    known = [phrase for name in wanted for phrase in lists.get(name, [])]
    own_credits: tuple[str, ...] = ()
    if workspace is not None:
        known += read_own_credits(workspace / OWN_HALLUCINATIONS)
        own_credits = read_own_credits(workspace / OWN_CREDITS)
    return Phrases(
        credits_for(language, own_credits), frozenset(filter(None, map(normalise, known)))
    )


@dataclass(frozen=True, slots=True)
class Measures:
    """What the scores of a segment are.

    Those of its label, the text that would be trained on (`normal` is its normalised form); of what
    the newest model heard, if that is another text; and how two models agree.
    """

    normal: str
    chars_per_second: float
    script_share: float | None
    loop: str | None
    long_word: str | None
    is_credit: bool
    is_hallucination: bool
    comparison: Comparison | None = None
    heard: str = ""
    heard_loop: str | None = None
    heard_invented: bool = False
    """Credits or another sentence that models write where nobody speaks."""
    agreement: float | None = None
    """CER between the newest transcripts of two models."""

    def named(self) -> dict[str, float]:
        """The numbers by the names under which the catalogue keeps them."""
        found = {"chars_per_second": self.chars_per_second, "script_share": self.script_share}
        if self.comparison is not None:
            found |= {name: getattr(self.comparison, name) for name in COMPARED}
        if self.agreement is not None:
            found["agreement"] = self.agreement
        return {name: value for name, value in found.items() if value is not None}


COMPARED = ("cer", "wer", "cer_head", "cer_tail", "ins_rate", "del_rate")
MEASURED = ("chars_per_second", "script_share", *COMPARED, "agreement")
"""Names of the scores that are computed here, of the label of a segment."""

HEARD = (
    "avg_logprob",
    "no_speech_prob",
    "compression_ratio",
    "fallback",
    "language_prob",
    "align_prob_median",
    "align_start_shift",
    "align_end_shift",
    "voice_share",
)
"""Names of the scores that labelling stores with a pseudo-label; any of them may be absent."""


def measure(
    label: Text,
    heard: Text | None,
    earlier: Text | None,
    seconds: float,
    language: str,
    phrases: Phrases,
) -> Measures:
    """Score a segment.

    Args:
        label: the text that would be trained on.
        heard: the newest pseudo-label, which may be the label itself.
        earlier: the newest pseudo-label of another model.
        seconds: length of the segment.
        language: the workspace's.
    """
    normal = normalise(label.text)
    heard_normal = normal if heard is label or heard is None else normalise(heard.text)
    other = heard if heard is not label else None
    return Measures(
        normal=normal,
        chars_per_second=len(normal) / max(0.001, seconds),
        script_share=script_share(normal, language),
        loop=find_loop(normal),
        long_word=find_long_word(normal, language),
        is_credit=phrases.is_credit(label.text),
        is_hallucination=phrases.is_hallucination(normal),
        comparison=None if other is None else compare(normal, heard_normal),
        heard=heard_normal if heard is not None else "",
        heard_loop=None if other is None or heard_normal == normal else find_loop(heard_normal),
        heard_invented=other is not None
        and (phrases.is_credit(other.text) or phrases.is_hallucination(heard_normal)),
        agreement=None
        if heard is None or earlier is None
        else compare(normalise(earlier.text), heard_normal).cer,
    )
