"""Text as it is kept, text as it is compared, and the two error rates.

Whisper's own normaliser replaces every combining mark by a space, which takes Hindi, Tamil or Thai
words apart. Ours keeps the marks (Unicode category M), since there they carry the vowels.
"""

import re
import unicodedata
from dataclasses import dataclass

JOINERS = "\u200c\u200d"
"""Zero-width non-joiner and joiner: they shape letters in Persian, Bengali, Sinhala and others."""

_APOSTROPHES = re.compile(r"(?<=\w)['\u2019\u02bc]+(?=\w)")


def is_language_code(code: str) -> bool:
    """Whether a text has the form of a BCP 47 language code, such as ``cs`` or ``pt-BR``."""
    return bool(re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", code))


def base_language(code: str) -> str:
    """The language of a code without region or script: ``pt`` of ``pt-BR``."""
    return code.replace("_", "-").split("-")[0].lower()


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


def normalise(text: str) -> str:
    """A text as the metrics compare it.

    NFKC, casefolded, punctuation and symbols (categories P and S) to spaces, apostrophes inside a
    word and zero-width characters removed, combining marks kept.
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    visible = (
        character
        for character in text
        if character.isspace() or not unicodedata.category(character).startswith("C")
    )
    text = _APOSTROPHES.sub("", "".join(visible))
    words = "".join(
        " " if unicodedata.category(character).startswith(("P", "S")) else character
        for character in text
    )
    # Once more, for letters and marks that have only now become neighbours.
    return " ".join(unicodedata.normalize("NFKC", words).split())


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
