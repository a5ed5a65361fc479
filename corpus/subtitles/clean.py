"""What of a subtitle track is speech: rules on its cues, each change with its reason.

Labels that hold what nobody says (credits, sounds, speakers' names) teach a model to say it. The
rules are those that NB-Whisper, Granary and NeMo's corpora have been cleaned with, for any script.
The file itself stays as it is; what is done here can be done anew with other rules.
"""

import math
import re
import tomllib
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path

from corpus.errors import UserError
from corpus.text import base_language, normalise

CREDITS_FILE = Path(__file__).with_name("credits.toml")
CREDIT_CUES = 10
"""So many cues at the beginning and at the end of a track may name its makers."""

OWN_CREDITS = "credits.txt"
"""Name of the list in a workspace: one phrase a line, as in `credits.toml`; # begins a comment."""

LABEL_LENGTH, LABEL_WORDS, LABEL_TIMES = 25, 4, 3
"""A speaker's name is at most so long (characters, words) and stands so often before a colon."""

LONGEST_MARK = 8
"""Characters within which the mark of an unfinished sentence is looked for."""

ANSWER_LENGTH = 12
"""Characters of a normalised text that may recur without end: "yes", "mm-hm", "thank you"."""

# Why a cue is left out.
UNREADABLE = "unreadable characters"
CREDIT = "credits"
MUSIC = "music"
SOUND = "sound"
WORDLESS = "no words"
REPEATED = "repeated text"
# Why a cue's text is changed.
LYRICS = "music beside speech"
BRACKETS = "bracketed"
ARROWS = ">>"
LABEL = "speaker label"
DASH = "speaker dash"
CONTINUATION = "continuation mark"

_NOTE = "♩♪♫♬🎵🎶"
_SUNG_LINE = re.compile(
    rf"\s*[{_NOTE}].*[{_NOTE}]\s*|\s*[{_NOTE}]++[^{_NOTE}]*|[^{_NOTE}]*[{_NOTE}]++\s*"
    r"|\s*#(?!\w).*#\s*"
)
_SUNG_CUE = re.compile(rf"\s*[{_NOTE}].*[{_NOTE}]\s*", re.DOTALL)
_SUNG_SPAN = re.compile(rf"[{_NOTE}]++(?:[^{_NOTE}]*+[{_NOTE}]++)?")
_BRACKETS = r"\[[^\[\]]*\]|［[^［］]*］|【[^【】]*】|\([^()]*\)|（[^（）]*）"
_SOUND = re.compile(rf"(?:[\s.…-]*(?:{_BRACKETS}|\*[^*]+\*))+[\s.…]*")
# An age or a number in parentheses is text, and so is an ending: "the friend(s)", "f(x)".
_BRACKETED = re.compile(
    rf"\s*(?!(?<=\w)\()(?![(（]\s*\d{{1,4}}\s*[)）])(?:{_BRACKETS})(\s*(?=[,.;:!?…]))?"
)
# What is left of a line such as "man: [inaudible]".
_NAME_ALONE = re.compile(rf"[^:：]{{1,{LABEL_LENGTH}}}[:：]\s*")
_ARROWS = re.compile(r"(?:(?<=\s)|^)>{2,}[ \t]*", re.MULTILINE)
_LABEL = re.compile(rf"([^\W\d_][^:：\n]{{0,{LABEL_LENGTH - 1}}}?)\s?(?::(?=\s|$)|：)[ \t]*")
_DASH = re.compile(r"^[-‐‑–—−](?:[ \t]+|(?=[^\W\d_]|[\"'“„«¿¡]))")
_ADDRESS = re.compile(r"https?://\S+|www\.\S+|(?<!\S)@\w[\w.]{2,}")
_UNFINISHED = re.compile(r"\s*(\.{2,}|…+|--?|[–—])$")
_RESUMED = re.compile(r"(?:\.{2,}|…+)\s*")


@dataclass(frozen=True)
class Cue:
    """A cue of a track (milliseconds).

    `is_dialogue` tells that more than one person speaks in it, `after_break` that a cue just before
    it was left out: what is heard there has no text.
    """

    start_ms: int
    end_ms: int
    text: str
    is_dialogue: bool = False
    after_break: bool = False


@dataclass(frozen=True)
class Change:
    """What was done to the cue at `position` of the track, and why; left out if `after` is None."""

    position: int
    reason: str
    before: str
    after: str | None


@dataclass(frozen=True)
class Cleaned:
    """The cues with speech, each text on one line, and every change that was made."""

    cues: list[Cue]
    changes: list[Change]

    def told(self) -> str | None:
        """One line with counts by reason; None where all was speech."""
        left_out = Counter(change.reason for change in self.changes if change.after is None)
        changed = Counter(change.reason for change in self.changes if change.after is not None)
        dialogues = sum(cue.is_dialogue for cue in self.cues)
        parts = [
            f"{word} {', '.join(f'{count} × {reason}' for reason, count in counts.most_common())}"
            for word, counts in (("cues left out:", left_out), ("texts changed:", changed))
            if counts
        ]
        if dialogues:
            parts.append(f"{dialogues} × more than one speaker in a cue")
        return "; ".join(parts) or None


@dataclass(frozen=True)
class Credits:
    """Phrases by which a cue is known to name the makers of the subtitles."""

    phrases: tuple[str, ...]

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        marked = [re.escape(phrase[1:]) for phrase in self.phrases if phrase.startswith("*")]
        return re.compile(rf".*(?:{'|'.join(marked)})" if marked else "(?!)")

    @cached_property
    def _at_an_end(self) -> re.Pattern[str]:
        beginnings = [_whole_words(p) for p in self.phrases if not p.startswith("*")]
        return re.compile("|".join([self._anywhere.pattern, *beginnings]))

    def match(self, text: str, *, at_an_end: bool) -> bool:
        """Whether a cue's text is a credit, or an address as it is written but not said.

        Only at the beginning or the end of a track do phrases without * count, and addresses with
        some words around them: in the middle of a talk, "translated by the ribosome" is said.
        """
        folded = " ".join(_folded(text).split())
        pattern = self._at_an_end if at_an_end else self._anywhere
        if pattern.match(folded, _first_letter(folded)):
            return True
        if "." not in folded and "@" not in folded:
            return False
        written = sum(map(len, _ADDRESS.findall(folded)))
        return written == len(folded) or (at_an_end and 2 * written >= len(folded))


def _folded(text: str) -> str:
    """A text without case, Turkish too, whose small i without a dot has a capital like ours."""
    return text.casefold().replace("\u0131", "i").replace("i\u0307", "i")


def _first_letter(text: str) -> int:
    """Where the first letter or digit of a text is: what stands before it is not compared."""
    return next((i for i, character in enumerate(text) if character.isalnum()), len(text))


def _whole_words(phrase: str) -> str:
    """A pattern for a phrase that does not end inside a word, where its script has cases: the
    others often write a name right behind."""
    last = phrase[-1]
    return re.escape(phrase) + (r"(?!\w)" if last.isalpha() and last.upper() != last else "")


def read_own_credits(file: Path) -> tuple[str, ...]:
    """The phrases in a workspace's own list; none where there is no such file.

    Raises:
        UserError: the file cannot be read.
    """
    if not file.exists():
        return ()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read ({error}); save it as UTF-8 text") from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line.strip("* "))


@lru_cache(maxsize=16)
def credits_for(language: str, own: tuple[str, ...] = ()) -> Credits:
    """The phrases for tracks in a language: its own, English ones, those of any, and `own`."""
    lists = tomllib.loads(CREDITS_FILE.read_text(encoding="utf-8"))
    wanted = ("any", "en", base_language(language))
    phrases = [phrase for name in wanted for phrase in lists.get(name, [])] + list(own)
    folded = (_folded(unicodedata.normalize("NFC", phrase)) for phrase in phrases)
    marks = (("*" if phrase.startswith("*") else "", phrase) for phrase in folded)
    spelt = (mark + phrase[_first_letter(phrase) :] for mark, phrase in marks)
    return Credits(tuple(dict.fromkeys(phrase for phrase in spelt if phrase.strip("*"))))


def clean_cues(cues: Sequence[Cue], credits: Credits) -> Cleaned:
    """Leave out the cues that are not speech, and from the others what is not said.

    Left out are cues that hold broken characters, only music or only sounds, credits, no letter or
    digit, or a text that recurs more often than people repeat themselves. Taken from a text are
    lyrics beside speech, brackets (not those around a number), ``>>``, the names and dashes that
    mark speakers, and the marks by which a sentence goes on in the next cue.
    """
    changes: list[Change] = []
    texts: list[tuple[int, str]] = []  # position, text without what stands beside speech
    for position, cue in enumerate(cues):
        at_an_end = min(position, len(cues) - 1 - position) < CREDIT_CUES
        reason = CREDIT if credits.match(cue.text, at_an_end=at_an_end) else _not_speech(cue.text)
        if reason is not None:
            changes.append(Change(position, reason, cue.text, None))
            continue
        text = cue.text
        for rule, reason in ((_without_lyrics, LYRICS), (_without_brackets, BRACKETS)):
            text = _apply(rule(text), text, position, reason, changes)
        texts.append((position, text))
    labels = _speaker_labels(text for _, text in texts)
    kept: list[tuple[int, Cue]] = []
    for position, text in texts:
        text, is_dialogue = _without_speakers(text, labels, position, changes)
        text = " ".join(text.split())
        if any(character.isalnum() for character in text):
            kept.append((position, replace(cues[position], text=text, is_dialogue=is_dialogue)))
        else:
            changes.append(Change(position, WORDLESS, cues[position].text, None))
    kept = _without_repeats(_joined(kept, changes), changes)
    positions = [position for position, _ in kept]
    marked = [
        replace(cue, after_break=position > before + 1)
        for (position, cue), before in zip(kept, [-1, *positions], strict=False)
    ]
    return Cleaned(marked, sorted(changes, key=lambda change: change.position))


def _apply(after: str, before: str, position: int, reason: str, changes: list[Change]) -> str:
    """`after`, with the change noted if there is one."""
    if after != before:
        changes.append(Change(position, reason, before, after))
    return after


def is_small(character: str) -> bool:
    """A small letter of a script that writes capitals, which Georgian does not."""
    return character.islower() and not "\u10d0" <= character <= "\u10ff"


def _not_speech(text: str) -> str | None:
    """Why a whole cue is left out."""
    if "\ufffd" in text:
        return UNREADABLE
    if _SUNG_CUE.fullmatch(text) or all(_SUNG_LINE.fullmatch(line) for line in text.split("\n")):
        return MUSIC
    return SOUND if _SOUND.fullmatch(text) else None


def _without_lyrics(text: str) -> str:
    lines = [line for line in text.split("\n") if not _SUNG_LINE.fullmatch(line)]
    return _SUNG_SPAN.sub(" ", "\n".join(lines))


def _without_brackets(text: str) -> str:
    if _BRACKETED.search(text) is None:
        return text
    before = text.split("\n")
    after = _BRACKETED.sub(_instead_of_brackets, text).split("\n")
    lines = (line.strip().lstrip(":：,; ") for line in after)
    left = (line for line in lines if line in before or not _NAME_ALONE.fullmatch(line))
    return "\n".join(left).strip()


def _instead_of_brackets(found: re.Match[str]) -> str:
    """Nothing before punctuation and for East Asian brackets, else a space."""
    return "" if found[1] is not None or found[0].lstrip()[0] in "（【［" else " "


def _label(line: str) -> re.Match[str] | None:
    """What a line may begin with as the name of who speaks."""
    match = _LABEL.match(_DASH.sub("", _ARROWS.sub("", line.strip())))
    if match is None or is_small(match[1][0]) or len(match[1].split()) > LABEL_WORDS:
        return None
    allowed = all(c in " .'’-&#" or unicodedata.category(c)[0] in "LMN" for c in match[1])
    return match if allowed else None


def _speaker_labels(texts: Iterable[str]) -> set[str]:
    """The names before colons that recur, stand behind >>, or are all capitals where not all is."""
    lines = [line for text in texts for line in text.split("\n")]
    found = Counter(match[1] for line in lines if (match := _label(line)))
    announced = {
        match[1] for line in lines if line.lstrip().startswith(">>") and (match := _label(line))
    }
    if not found:
        return set()
    cased = [c for line in lines for c in line if c.isupper() or is_small(c)]
    shouted = sum(c.isupper() for c in cased) > 0.95 * len(cased)
    return announced | {
        name
        for name, count in found.items()
        if count >= LABEL_TIMES or (name.isupper() and len(name) > 1 and not shouted)
    }


def _without_speakers(
    text: str, labels: set[str], position: int, changes: list[Change]
) -> tuple[str, bool]:
    """A text without what marks its speakers, and whether there is more than one of them."""
    arrows_within = any(text[: found.start()].strip() for found in _ARROWS.finditer(text))
    text = _apply(_ARROWS.sub("", text), text, position, ARROWS, changes)
    lines = [line.strip() for line in text.split("\n")]
    dashes = [_DASH.match(line) is not None for line in lines]
    undashed = [_DASH.sub("", line) for line in lines]
    text = _apply("\n".join(undashed), "\n".join(lines), position, DASH, changes)
    names = [match if (match := _label(line)) and match[1] in labels else None for line in lines]
    spoken = [
        line[name.end() :] if name else line for line, name in zip(undashed, names, strict=True)
    ]
    text = _apply("\n".join(spoken), text, position, LABEL, changes)
    several_names = len({name[1] for name in names if name}) > 1
    # Often only the answer has a dash.
    return text, arrows_within or any(dashes[1:]) or several_names


def _joined(cues: list[tuple[int, Cue]], changes: list[Change]) -> list[tuple[int, Cue]]:
    """The cues without the marks that a sentence broken off at one goes on in the next."""
    texts = {position: cue.text for position, cue in cues}
    for (position, _), (following, _) in pairwise(cues):
        before, after = texts[position], texts[following]
        unfinished = _UNFINISHED.search(before, max(0, len(before) - LONGEST_MARK))
        if unfinished is None:
            continue
        resumed = _RESUMED.match(after) if unfinished[1][0] in ".…" else None
        if resumed:
            texts[following] = _apply(
                after[resumed.end() :], after, following, CONTINUATION, changes
            )
        if resumed or is_small(after[0]):
            texts[position] = _apply(
                before[: unfinished.start()], before, position, CONTINUATION, changes
            )
    return [(position, replace(cue, text=texts[position])) for position, cue in cues]


def _without_repeats(cues: list[tuple[int, Cue]], changes: list[Change]) -> list[tuple[int, Cue]]:
    """The cues up to the ceil(log2(cues))-th, but at least the second, of each text."""
    limit = max(2, math.ceil(math.log2(max(1, len(cues)))))
    seen: Counter[str] = Counter()
    kept = []
    for position, cue in cues:
        text = normalise(cue.text)
        seen[text] += 1
        if seen[text] > limit and len(text) > ANSWER_LENGTH:
            changes.append(Change(position, REPEATED, cue.text, None))
        else:
            kept.append((position, cue))
    return kept
