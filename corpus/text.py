"""Text as it is kept, text as it is compared, and the two error rates.

Whisper's own normaliser replaces every combining mark by a space, which takes Hindi, Tamil or Thai
words apart. Ours keeps the marks (Unicode category M), since there they carry the vowels.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: they shape letters in Persian, Bengali, Sinhala and others."""

_APOSTROPHES = re.compile(r"(?<=\w)['\u2019\u02bc]+(?=\w)")


_ALIASES = {"cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "ji": "yi", "jv": "jw", "nb": "no"}
"""What sites, FLEURS and others call otherwise than Whisper does."""


def is_language_code(code: str) -> bool:
    """Whether a text has the form of a BCP 47 language code, such as ``cs`` or ``pt-BR``."""
    return bool(re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code))


def base_language(code: str) -> str:
    """The language of a code without region or script, as Whisper names it: ``pt`` of ``pt-BR``."""
    code = code.replace("_", "-").split("-")[0].lower()
    return _ALIASES.get(code, code)


def clean_transcript(text: str) -> str:
    """A transcript as the catalogue keeps it: NFC, single spaces, no invisible controls.

    NFKC would rewrite fractions, ligatures and the Thai sara am; NFC leaves the text as written.
    """
    # Most texts are clean already, and this sees it ten times faster than what follows.
    if text.isprintable() and unicodedata.is_normalized("NFC", text):
        return " ".join(text.split())
    kept = (
        " " if character.isspace() else character
        for character in text
        if character in JOINERS
        or character.isspace()
        or unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Co"}
    )
    # Composed last: what stood between a letter and its mark may be gone only now.
    return " ".join(unicodedata.normalize("NFC", "".join(kept)).split())


class _Table(dict[int, str | None]):
    """What `str.translate` makes of each character, worked out when it is first met."""

    def __init__(self, replace: Callable[[str], str | None]) -> None:
        super().__init__()
        self.replace = replace

    def __missing__(self, code: int) -> str | None:
        self[code] = found = self.replace(chr(code))
        return found


_VISIBLE = _Table(lambda c: c if c.isspace() or unicodedata.category(c)[0] != "C" else None)
_WORDS = _Table(lambda c: " " if unicodedata.category(c)[0] in "PS" else c)


def normalise(text: str) -> str:
    """A text as the metrics compare it.

    NFKC, casefolded, punctuation and symbols (categories P and S) to spaces, apostrophes inside a
    word and zero-width characters removed, combining marks kept.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    if not text.isprintable():  # as hardly any is not
        text = text.translate(_VISIBLE)
    text = _APOSTROPHES.sub("", text).translate(_WORDS)
    # Once more, for letters and marks that have only now become neighbours.
    return " ".join(unicodedata.normalize("NFKC", text).split())


def whisper_normalise(text: str) -> str:
    """A text as Whisper's own multilingual normaliser compares it, for figures beside published
    ones: it replaces combining marks by spaces, so that in Hindi or Thai it counts fragments."""
    return str(_whisper_normaliser()(text)).strip()


@lru_cache(maxsize=1)
def _whisper_normaliser() -> Any:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer

    return BasicTextNormalizer()


@dataclass(frozen=True)
class ErrorRates:
    """Corpus-level error rates: all edits over all reference units, not a mean of means."""

    wer: float
    cer: float
    words: int
    characters: int
    substitutions: int
    deletions: int
    insertions: int


def error_rates(references: list[str], hypotheses: list[str]) -> ErrorRates:
    """WER and CER of hypotheses against references, over the whole list; counts are of words.

    An empty reference is allowed: every hypothesised word there is an insertion.

    Raises:
        ValueError: the lists differ in length, or all references are empty.
    """
    import jiwer

    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} references but {len(hypotheses)} hypotheses")
    if not any(reference.strip() for reference in references):
        raise ValueError("no reference has a word: error rates are undefined")
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    return ErrorRates(
        wer=words.wer,
        cer=characters.cer,
        words=words.hits + words.substitutions + words.deletions,
        characters=characters.hits + characters.substitutions + characters.deletions,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
    )
