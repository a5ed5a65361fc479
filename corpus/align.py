"""Where the words of a subtitle track are heard: the track's timing, and where segments begin.

What a model heard in a recording and what its subtitles say are matched as two sequences of words.
That needs no times at all, so a track may be late by any amount. The matched words then tell
how the track lies against the speech, by a fit that a few wrong pairs cannot move. An hour of
talk (9,000 words) is matched in some 10 ms.

All times are milliseconds of the recording.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from corpus.segment import MAX_SECONDS, PAD_END_SECONDS, PAD_START_SECONDS, Span
from corpus.text import normalise

SURE = 0.8
"""Word probability from which a matched word tells the time; of a doubtful model's words, the surer
half do."""

MIN_ANCHORS, FEWEST_ANCHORS = 20, 5
"""A fit rests on so many cues; in a short track fewer do, if as many of the words that could match
as `MIN_AGREEMENT` says do match."""

MAX_STRETCH = 0.05
"""Slopes further from 1 are no frame rate taken for another: the widest pair, 25 and 23.976 frames
a second, differs by 4.3 %."""

MIN_BASE_MS = 10_000
"""Cues closer to each other tell nothing of the slope."""

MAX_RESIDUAL_MS = 600
"""A track that still lies this far off in the median is not late but another cut."""

MIN_MOVE_MS = 400
"""A track that is off by less anywhere is in time: viewers do not notice, padding covers most."""

MAX_SHIFT_MS = 1500
"""A segment's bound that would have to move further rests on a wrong match."""
MIN_SHIFT_MS = 200
"""Below, a bound stays: word times are no better."""

MIN_PROBABILITY = 0.4
"""Mean probability of a text's words from which their times count; of a doubtful model's, from half
of what is usual for it."""

MIN_AGREEMENT = 0.5
"""Share of words that must match where a short track is fitted, or a text given to a stretch."""

# Written without spaces between words: matched character by character. Han and kana, Thai and Lao,
# Tibetan and Burmese, Khmer.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff"
_UNIT = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")


class Word(NamedTuple):
    """A word and where it is heard; made from a row of `Transcript.words` by `Word(*row)`."""

    start_ms: int
    end_ms: int
    text: str
    probability: float = 1.0


@dataclass(frozen=True)
class Unit:
    """What is matched: a normalised word, or a character of a script without spaces.

    `of` is the index of the text that it comes from.
    """

    start_ms: float
    end_ms: float
    text: str
    probability: float
    of: int


def units(texts: Iterable[Word]) -> list[Unit]:
    """Words or longer texts taken apart, each text's time shared out by characters."""
    found = []
    for index, whole in enumerate(texts):
        parts = _UNIT.findall(normalise(whole.text))
        ends = np.cumsum([0, *map(len, parts)])
        times = whole.start_ms + (whole.end_ms - whole.start_ms) * ends / max(1, ends[-1])
        found += [
            Unit(float(start), float(end), part, whole.probability, index)
            for part, (start, end) in zip(parts, pairwise(times), strict=True)
        ]
    return found


class Pair(NamedTuple):
    """Indices of a unit that is said and heard; `run` is how many in a row are with it."""

    said: int
    heard: int
    run: int


def match(said: Sequence[Unit], heard: Sequence[Unit]) -> list[Pair]:
    """The equal units in an alignment of two sequences with the fewest edits (Levenshtein)."""
    from rapidfuzz.distance import Levenshtein

    edits = Levenshtein.opcodes([unit.text for unit in said], [unit.text for unit in heard])
    return [
        Pair(edit.src_start + k, edit.dest_start + k, edit.src_end - edit.src_start)
        for edit in edits
        if edit.tag == "equal"
        for k in range(edit.src_end - edit.src_start)
    ]


@dataclass(frozen=True)
class Timing:
    """How a track lies against the speech: heard at `scale` · cue time + `offset_ms`.

    `anchors` is the number of cues that tell so, `residual_ms` their median distance from it.
    """

    offset_ms: float
    scale: float
    anchors: int
    residual_ms: float

    def __call__(self, ms: float) -> int:
        """The time at which it is heard."""
        return round(self.scale * ms + self.offset_ms)

    def moves(self, cues: Sequence[Span]) -> bool:
        """Whether any cue (in order) is out of time by more than `MIN_MOVE_MS`."""
        ends = (cues[0].start_ms, cues[-1].end_ms)
        return max(abs(self(end) - end) for end in ends) > MIN_MOVE_MS


def fit_timing(cues: Sequence[Span], heard: Iterable[Word]) -> Timing | None:
    """Fit an offset, or an offset and a slope, to a track whose words are heard elsewhere.

    Each cue counts once, with the median shift of its words: of those in its first half, if any are
    heard, since a cue's start is set with more care than its end. The offset is a median and the
    slope the median of the slopes between cues (Theil 1950, Sen 1968), so up to a quarter of wrong
    matches do no harm. The slope is only taken where it halves what the offset alone leaves.

    Args:
        cues: in order.
        heard: in order.

    Returns:
        None where too few cues are recognised, or where no such fit comes near them.
    """
    said, words = units(Word(c.start_ms, c.end_ms, c.text) for c in cues), units(heard)
    pairs = [pair for pair in match(said, words) if pair.run > 1]
    if not pairs:
        return None
    sure = min(SURE, float(np.median([words[pair.heard].probability for pair in pairs])))
    early: dict[int, list[float]] = defaultdict(list)
    late: dict[int, list[float]] = defaultdict(list)
    for pair in pairs:
        unit, word = said[pair.said], words[pair.heard]
        if word.probability >= sure:
            cue = cues[unit.of]
            half = early if 2 * unit.start_ms < cue.start_ms + cue.end_ms else late
            # Ends: attention gives a word the pause before it, too.
            half[unit.of].append(word.end_ms - unit.end_ms)
    shifts = late | early
    agreed = len(pairs) >= MIN_AGREEMENT * min(len(said), len(words))
    if len(shifts) < (FEWEST_ANCHORS if agreed else MIN_ANCHORS):
        return None
    at = np.array([cues[index].start_ms for index in shifts], dtype=float)
    shift = np.array([np.median(values) for values in shifts.values()])
    offset = float(np.median(shift))
    residual = float(np.median(np.abs(shift - offset)))
    best = Timing(offset, 1.0, len(shifts), residual)
    stretch = _theil_sen(at, shift)
    if stretch is not None and abs(stretch) <= MAX_STRETCH:
        offset = float(np.median(shift - stretch * at))
        left = float(np.median(np.abs(shift - stretch * at - offset)))
        if left < residual / 2:
            best = Timing(offset, 1.0 + stretch, len(shifts), left)
    return best if best.residual_ms <= MAX_RESIDUAL_MS else None


def _theil_sen(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float | None:
    """Median slope between points; of long series, only those a half apart are paired."""
    if x.size > 2000:
        first, second = np.arange(x.size // 2), np.arange(x.size // 2) + x.size // 2
    else:
        first, second = np.triu_indices(x.size, 1)
    far = x[second] - x[first] >= MIN_BASE_MS
    if not far.any():
        return None
    return float(np.median((y[second] - y[first])[far] / (x[second] - x[first])[far]))


@dataclass(frozen=True)
class Stretch:
    """A segment and the words of its text, timed by an alignment where there is one.

    A `fixed` one stays as it is.
    """

    start_ms: int
    end_ms: int
    text: str
    words: Sequence[Word] = ()
    fixed: bool = False


def repair_bounds(
    segments: Sequence[Stretch], heard: Sequence[Word], *, duration_ms: int
) -> list[tuple[int, int]]:
    """New bounds of segments that lack their first or last words, or hold words of others.

    A word that the neighbour's stretch holds is known from what was heard there; where the text
    begins and ends inside its own, from the alignment of its words, if they are probable enough.
    Between a bound and its word stays the usual padding, but not into another word. A bound stays
    where it would move by less than `MIN_SHIFT_MS` or more than `MAX_SHIFT_MS`, and so do both
    beside a pause where they would overlap.

    Args:
        segments: all of the recording's, in order, not overlapping; those without text stay.
        heard: the words of all of them, in order.
        duration_ms: of the recording.
    """
    heard = _without_pauses(heard)
    old = [(s.start_ms, s.end_ms) for s in segments]
    said, words = units(Word(s.start_ms, s.end_ms, s.text) for s in segments), units(heard)
    place = {pair.said: words[pair.heard] for pair in match(said, words)}
    positions: dict[int, list[int]] = defaultdict(list)
    for position, unit in enumerate(said):
        positions[unit.of].append(position)
    enough = _enough([s.words for s in segments if s.words])
    starts, ends = np.sort([w.start_ms for w in heard]), np.sort([w.end_ms for w in heard])
    new = []
    spoken: list[tuple[float | None, float | None]] = []  # where each text begins and ends
    for index, segment in enumerate(segments):
        start, end = old[index]
        begin = finish = None
        if index in positions and not segment.fixed:
            aligned = segment.words if _mean_probability(segment.words) >= enough else ()
            first, last = (place.get(positions[index][k]) for k in (0, -1))
            begin = _edge(
                first.start_ms if first else None,
                aligned[0].start_ms if aligned else None,
                segment,
                start,
            )
            finish = _edge(
                last.end_ms if last else None, aligned[-1].end_ms if aligned else None, segment, end
            )
            if begin is not None:
                before = _latest(ends, begin + 1, 0)
                pad = min(1000 * PAD_START_SECONDS, (begin - before) / 2)
                if begin < start or before > start:
                    start = _moved(start, max(0, round(begin - pad)))
            if finish is not None:
                after = _earliest(starts, finish - 1, duration_ms)
                pad = min(1000 * PAD_END_SECONDS, (after - finish) / 2)
                if finish > end or after < end:
                    end = _moved(end, min(duration_ms, round(finish + pad)))
        new.append((start, end))
        spoken.append((begin, finish))
    for i, ((_, end), (start, _)) in enumerate(pairwise(new)):
        if end > start and not segments[i].fixed and not segments[i + 1].fixed:
            cut = _between(spoken[i][1], spoken[i + 1][0], end, start)
            if cut and max(abs(cut - old[i][1]), abs(cut - old[i + 1][0])) <= MAX_SHIFT_MS:
                new[i], new[i + 1] = (new[i][0], cut), (cut, new[i + 1][1])
    return _apart(old, new)


def _without_pauses(words: Sequence[Word]) -> list[Word]:
    """Words of which none begins with the pause before it, as attention has it.

    A word is at most twice as long as most (openai/whisper does so too).
    """
    longest = 2 * float(np.median([word.end_ms - word.start_ms for word in words] or [0]))
    return [
        word._replace(start_ms=max(word.start_ms, round(word.end_ms - longest))) for word in words
    ]


def _enough(alignments: Sequence[Sequence[Word]]) -> float:
    usual = float(np.median([_mean_probability(words) for words in alignments] or [1.0]))
    return min(MIN_PROBABILITY, usual / 2)


def _mean_probability(words: Sequence[Word]) -> float:
    return float(np.mean([word.probability for word in words])) if words else 0.0


def _edge(heard: float | None, aligned: float | None, segment: Stretch, bound: int) -> float | None:
    """Where a text begins or ends: as heard, if that is just outside the segment, else as aligned.

    Inside, the alignment knows more: it has a time for words that were heard as others.
    """
    if heard is None or aligned is None:
        return aligned if heard is None else heard
    inside = segment.start_ms <= heard <= segment.end_ms
    return aligned if inside or abs(heard - bound) > MAX_SHIFT_MS else heard


def _between(finish: float | None, begin: float | None, end: int, start: int) -> int | None:
    """Where one text ends and the next begins, of which one's bound reaches over the other's.

    None if the words say that the texts themselves overlap.
    """
    if finish is None:
        return start
    if begin is None:
        return end
    return round((finish + begin) / 2) if finish - begin <= MIN_SHIFT_MS else None


def _latest(ends: np.ndarray[Any, Any], limit: float, default: int) -> float:
    """The last of the ends (sorted) up to a limit."""
    count = int(np.searchsorted(ends, limit, side="right"))
    return min(float(ends[count - 1]), limit - 1) if count else default


def _earliest(starts: np.ndarray[Any, Any], limit: float, default: int) -> float:
    """The first of the starts (sorted) from a limit on."""
    count = int(np.searchsorted(starts, limit, side="left"))
    return max(float(starts[count]), limit + 1) if count < len(starts) else default


def _moved(old: int, new: int) -> int:
    return new if MIN_SHIFT_MS <= abs(new - old) <= MAX_SHIFT_MS else old


def _apart(old: list[tuple[int, int]], new: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Take back what makes a segment empty or longer than a window, or two of them overlap."""
    new = list(new)
    while True:
        wrong = {i for i, (a, b) in enumerate(new) if not 0 < b - a <= 1000 * MAX_SECONDS}
        for i, ((_, end), (start, _)) in enumerate(pairwise(new)):
            if end > start:
                wrong |= {i, i + 1}
        wrong = {i for i in wrong if new[i] != old[i]}
        if not wrong:
            return new
        for i in wrong:
            new[i] = old[i]


def share_text(text: str, heard: Sequence[Sequence[Word]]) -> list[str | None]:
    """Share a long text among the stretches in which it is spoken.

    Words that were not heard go where they fall between those that were.

    Args:
        heard: the words of each stretch, in order.

    Returns:
        For each stretch its part of the text as written, None where the two do not agree.
    """
    spans = [part.span() for part in _UNIT.finditer(text)]
    said = units(Word(0, 0, text[slice(*span)]) for span in spans)
    words = [(unit, index) for index, found in enumerate(heard) for unit in units(found)]
    pairs = match(said, [unit for unit, _ in words])
    if not pairs:
        return [None] * len(heard)
    nearest = np.interp(
        range(len(said)),
        [-1, *(pair.said for pair in pairs), len(said)],
        [-1, *(pair.heard for pair in pairs), len(words)],
    )
    owners = [words[min(max(0, round(index)), len(words) - 1)][1] for index in nearest]
    matched = {pair.said for pair in pairs}
    shares: list[str | None] = []
    begin = 0
    for index in range(len(heard)):
        mine = [position for position, owner in enumerate(owners) if owner == index]
        following = next((p for p, owner in enumerate(owners) if owner > index), None)
        end = len(text) if following is None else spans[said[following].of][0]
        agreed = sum(position in matched for position in mine)
        good = mine and agreed >= MIN_AGREEMENT * len(mine)
        shares.append(text[begin:end].strip() if good else None)
        begin = max(begin, end)
    return shares
