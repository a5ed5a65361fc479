"""Whether a track that passes for human was made by a machine.

Automatic captions that somebody uploads as their own teach a model another model's mistakes. They
are told by what they lack (Radford et al., "Robust Speech Recognition via Large-Scale Weak
Supervision", 2.1: punctuation, letter case) and by their timing. Nothing here is proof: a track is
flagged with its reasons, and people decide.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from corpus.subtitles.clean import Cue, is_small
from corpus.subtitles.reader import ROLLING_SHARE

Origin = Literal["human", "suspect_auto", "machine"]

LEAST_WORDS = 200
"""Shorter tracks are too short to miss commas or capitals in."""
LEAST_CUES = 20
"""Shorter tracks are too short to have a pattern of times."""

FEWEST_COMMAS, FEWEST_SENTENCE_ENDS = 2.0, 5.0
"""For each 1,000 words of what people have written."""
FEWEST_CAPITALS, MOST_CAPITALS = 0.005, 0.95
"""Share of the letters that have a case."""

ABUTTING_MS, ABUTTING_SHARE, CENTISECOND_SHARE = 20, 0.3, 0.95
"""Speech recognisers write cues end to end, in whole hundredths of a second. Of the times that
people's tools write, a tenth or a fifth are whole hundredths; their cues abut as often."""

SUSPECT_FEATURES, MACHINE_FEATURES = 2, 3

_COMMAS = re.compile("[,،、，፣՝]")
_SENTENCE_ENDS = re.compile("[.!?…。！？؟।॥።։۔።]+")
# Thai, Lao, Tibetan, Burmese and Khmer have no comma and no full stop; Japanese and Chinese
# subtitles go without by custom. None of them puts spaces between words.
_UNPUNCTUATED = re.compile("[\u0e00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
_AUTOMATIC_NAME = re.compile(r"\b(?:auto|automatic|auto[- ]?generated|asr)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Feature:
    """One thing that was measured, whether it looks machine-made, and in words."""

    name: str
    value: float
    is_machine_like: bool
    told: str


@dataclass(frozen=True)
class Suspicion:
    """Where a track seems to come from, and what was measured."""

    origin: Origin
    features: tuple[Feature, ...]

    def note(self) -> str | None:
        """``ORIGIN: reasons``, the form that `noted_suspicion` reads; None for a human track."""
        if self.origin == "human":
            return None
        return f"{self.origin}: {', '.join(f.told for f in self.features if f.is_machine_like)}"


def noted_suspicion(note: str | None) -> tuple[Origin, str]:
    """The origin that a note begins with, and its reasons; ``human`` where it names none."""
    origin, colon, rest = (note or "").partition(": ")
    if colon and origin == "suspect_auto":
        return "suspect_auto", rest.split("; ")[0]
    if colon and origin == "machine":
        return "machine", rest.split("; ")[0]
    return "human", ""


def judge_track(
    cues: Sequence[Cue], *, rolling: float = 0.0, key: str = "", name: str = "", url: str = ""
) -> Suspicion:
    """Judge a track by its cues as read, before they are cleaned.

    What cannot be measured (letter case in a script without, commas in a short track) counts for
    nothing.

    Args:
        cues: in order of time.
        rolling: the share of cues that began with the last line of the one before.
        key: the track's key at its site, such as ``cs`` or ``cs-orig``.
        name: the track's name at its site.
        url: where it was fetched from.
    """
    declared = _declared(key, name, url)
    features = (*declared, *_written(cues), *_timed(cues, rolling))
    count = sum(feature.is_machine_like for feature in features)
    if declared or count >= MACHINE_FEATURES:
        return Suspicion("machine", features)
    return Suspicion("suspect_auto" if count >= SUSPECT_FEATURES else "human", features)


def _declared(key: str, name: str, url: str) -> list[Feature]:
    """What the site itself says."""
    marks = {
        f"its key is {key}": key.endswith("-orig"),
        f"its name is {name}": _AUTOMATIC_NAME.search(name) is not None,
        "its address says automatic": re.search(r"[?&]kind=asr\b", url) is not None,
        "its address says translated": re.search(r"[?&]tlang=", url) is not None,
    }
    return [Feature("declared", 1.0, True, told) for told, is_so in marks.items() if is_so]


def _written(cues: Sequence[Cue]) -> list[Feature]:
    """Punctuation and letter case, where the script has them and there is text enough."""
    text = "\n".join(cue.text for cue in cues)
    words = len(text.split())
    letters = sum(character.isalpha() for character in text)
    if words < LEAST_WORDS or 2 * len(_UNPUNCTUATED.findall(text)) > letters:
        return []
    commas = 1000 * len(_COMMAS.findall(text)) / words
    ends = 1000 * len(_SENTENCE_ENDS.findall(text)) / words
    features = [
        Feature("commas", commas, commas < FEWEST_COMMAS, f"{commas:.1f} commas in 1,000 words"),
        Feature(
            "sentence_ends",
            ends,
            ends < FEWEST_SENTENCE_ENDS,
            f"{ends:.1f} sentence ends in 1,000 words",
        ),
    ]
    upper = sum(character.isupper() for character in text)
    cased = upper + sum(is_small(character) for character in text)
    if 2 * cased > letters:
        share = upper / cased
        features.append(
            Feature(
                "capitals",
                share,
                not FEWEST_CAPITALS <= share <= MOST_CAPITALS,
                f"{share:.1%} capitals",
            )
        )
    return features


def _timed(cues: Sequence[Cue], rolling: float) -> list[Feature]:
    """Rolling captions, and cues end to end in whole hundredths of a second."""
    features = [
        Feature("rolling", rolling, rolling >= ROLLING_SHARE, f"{rolling:.0%} rolling captions")
    ]
    if len(cues) >= LEAST_CUES:
        gaps = [after.start_ms - before.end_ms for before, after in pairwise(cues)]
        abutting = sum(abs(gap) <= ABUTTING_MS for gap in gaps) / len(gaps)
        whole = sum(cue.start_ms % 10 == 0 for cue in cues) / len(cues)
        # Whole seconds are a person's or a poor tool's.
        finer = any(cue.start_ms % 1000 for cue in cues)
        features.append(
            Feature(
                "end_to_end",
                abutting,
                abutting >= ABUTTING_SHARE and whole >= CENTISECOND_SHARE and finer,
                f"{abutting:.0%} of the cues end to end in hundredths of a second",
            )
        )
    return features
