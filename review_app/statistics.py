"""How the review goes, and what it says of the labels that nobody has heard yet.

Time: browsers measure how long each decision took, and people leave their desks. A time of more
than `LONGEST_SECONDS`, or more than `AWAY_TIMES` the person's own median, counts as that median.

Errors: where the text that a person was shown is a pseudo-label, what they made of it is the
measure of it. Rates are all edits over all characters of the corrected texts, not means of rates.

The error left: the queue hands out doubtful segments first, so that those which were reviewed are
worse than the rest. Reviewed and unreviewed ones are therefore compared within levels of the
model's confidence only, and the rates of the levels weighted by the characters that are left in
each (post-stratification; Cochran, Sampling Techniques, 1977, 5A.9). The interval is a bootstrap
over recordings (Efron and Tibshirani, 1993, ch. 13), as errors within a recording go together. What
is assumed: within a level, what the queue picked is no worse than what it left; where it picks the
longest or what differs from a subtitle, the estimate is somewhat too high.
"""

import math
import threading
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from statistics import median
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rapidfuzz.distance import Levenshtein
from sqlalchemy import ColumnElement, and_, case, func, or_, select
from sqlalchemy.orm import Session, aliased

from corpus.catalogue import (
    FINAL_ACTIONS,
    STANDS,
    Catalogue,
    Decision,
    Overview,
    Score,
    Segment,
    Transcript,
    in_utc,
)
from corpus.text import normalise
from review_app import agreement, queue
from review_app.accounts import Person

LONGEST_SECONDS = 600
AWAY_TIMES = 10

LEVELS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Where levels of confidence begin: the mean probability of a token, exp(avg_logprob)."""

MIN_CHECKED = 20
"""Corrected or accepted segments that a level needs to say something of those that are left."""

MIN_COVERED = 0.8
"""Share of the characters left that have to lie in such levels."""

MIN_RECORDINGS = 5
"""Fewer say nothing of how much recordings differ."""

DRAWS = 1000
GROUPS = 500
"""Recordings are resampled in at most so many groups, put together by chance."""


Key = TypeVar("Key", str, date, tuple[date, str])


class Made(NamedTuple):
    """A decision that stands, or a skip."""

    reviewer: str
    action: str
    day: date
    audio_s: float
    work_s: float | None
    """As the browser measured it."""


class Checked(NamedTuple):
    """A pseudo-label that a person has heard: how much of it was wrong."""

    recording_id: str
    level: int | None
    rejected: bool
    edits: int
    characters: int
    edits_as_written: int
    characters_as_written: int


class Left(NamedTuple):
    """Pseudo-labels of one level that nobody has reviewed."""

    level: int | None
    segments: int
    characters: int


class Standing(NamedTuple):
    """Segments with one verdict, decided or not."""

    verdict: str | None
    decided: bool
    segments: int
    hours: float


Edits = tuple[int, int, int, int]
"""Edits and characters, normalised; edits and characters as written."""


@dataclass(frozen=True)
class Rows:
    """What the catalogue holds for statistics."""

    waiting: int
    disputed: int
    standing: list[Standing]
    made: list[Made]
    checked: list[Checked]
    left: list[Left]
    pairs: list[agreement.Pair]


@dataclass(frozen=True)
class Pace:
    """What somebody has done, on one day or ever. Rates are None where no time was measured."""

    reviewer: str
    day: date | None
    accept: int
    correct: int
    reject: int
    skip: int
    audio_minutes: float
    work_minutes: float
    segments_per_hour: float | None
    audio_minutes_per_hour: float | None
    minutes_per_audio_hour: float | None


@dataclass(frozen=True)
class Errors:
    """What people changed of pseudo-labels; with a `level`, of those of one level."""

    level: str | None
    segments: int
    unchanged: int
    rejected: int
    characters: int
    cer: float | None
    cer_as_written: float | None


@dataclass(frozen=True)
class ErrorLeft:
    """An estimate for the pseudo-labels that nobody has reviewed and the verdict does not drop.

    `covered` is the share of their characters that lie in levels which say something; `rejects`
    the share of those segments that people would reject. `why` tells what keeps it from more.
    """

    segments: int
    characters: int
    covered: float
    cer: float | None = None
    low: float | None = None
    high: float | None = None
    rejects: float | None = None
    why: str | None = None


@dataclass(frozen=True)
class Agreed:
    """How far people agree: two of them, or everybody who has given a second opinion."""

    reviewers: list[str]
    figures: agreement.Agreement


@dataclass(frozen=True)
class Statistics:
    """All figures; `people`, `days` and `agreed` are those that the person who asks may see.

    `total`, `total_days` and the first of `agreed` are of everybody together.
    """

    waiting: int
    disputed: int
    """Segments on which an adjudicator is to have the last word."""
    decided: int
    hours_decided: float
    verdicts: list[Standing]
    total: Pace
    total_days: list[Pace]
    people: list[Pace]
    days: list[Pace]
    errors: Errors
    levels: list[Errors]
    error_left: ErrorLeft
    agreed: list[Agreed]


class Reader:
    """The rows of a catalogue for all who ask, read anew for at most a tenth of the time.

    With 100,000 decisions that takes seconds, in which the server has less time for reviewers.
    """

    REST = 9
    """How many times as long as reading took what was read is good enough."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._edits: dict[int, Edits] = {}
        self._turn = threading.Lock()
        self._until = 0.0
        self._rows: Rows | None = None

    def rows(self) -> Rows:
        """The present rows, or those of a moment ago."""
        with self._turn:
            began = monotonic()
            if self._rows is None or began >= self._until:
                with self._catalogue.reading() as session:
                    self._rows = read(session, self._edits)
                self._until = monotonic() + self.REST * (monotonic() - began)
            return self._rows


def read(session: Session, known: dict[int, Edits]) -> Rows:
    """Read what statistics need; `known` keeps the edits of decisions from one time to the next."""
    stands = case((STANDS, 1), else_=0)
    standing = session.execute(
        select(Overview.verdict, stands, func.count(), func.sum(Overview.milliseconds))
        .outerjoin(Decision, Decision.id == Overview.decision_id)
        .group_by(Overview.verdict, stands)
        .order_by(Overview.verdict, stands)
    )
    level = _level(Overview.logprob)
    left = session.execute(
        select(level, func.count(), func.sum(Overview.characters))
        .outerjoin(Decision, Decision.id == Overview.decision_id)
        .filter(
            stands == 0,
            Overview.characters.is_not(None),
            or_(Overview.verdict != "drop", Overview.verdict.is_(None)),
        )
        .group_by(level)
    )
    made = session.execute(
        select(
            Decision.reviewer,
            Decision.action,
            Decision.made_at,
            Segment.end_ms - Segment.start_ms,
            Decision.lead_ms,
        )
        .join(Segment, Segment.id == Decision.segment_id)
        .filter(Decision.action.in_((*FINAL_ACTIONS, "skip")), Decision.undone_by.is_(None))
    )
    return Rows(
        waiting=queue.count_waiting(session),
        disputed=queue.count_waiting(session, disputed=True),
        standing=[
            Standing(verdict, bool(decided), count, milliseconds / 3_600_000)
            for verdict, decided, count, milliseconds in standing
        ],
        made=[
            Made(reviewer, action, _day(at), length / 1000, lead and lead / 1000)
            for reviewer, action, at, length, lead in made
        ],
        checked=_checked(session, known),
        pairs=agreement.read_pairs(session),
        left=[Left(level, count, total or 0) for level, count, total in left],
    )


def _checked(session: Session, known: dict[int, Edits]) -> list[Checked]:
    shown, typed = aliased(Transcript), aliased(Transcript)
    rows = session.execute(
        select(Decision.id, Overview.recording_id, Score.value, Decision.before, typed.text)
        .join(Overview, Overview.decision_id == Decision.id)
        .join(
            shown,
            and_(
                shown.segment_id == Decision.segment_id,
                shown.kind == "pseudo",
                shown.text == Decision.before,
            ),
        )
        .outerjoin(Score, and_(Score.transcript_id == shown.id, Score.name == "avg_logprob"))
        .outerjoin(typed, typed.id == Decision.transcript_id)
        .filter(STANDS)
        .order_by(shown.id)
    )
    found: dict[int, Checked] = {}  # two models may have heard the same: the newer one counts
    for key, recording_id, logprob, before, after in rows:
        if key not in known:
            known[key] = edits(before or "", after or "")
        found[key] = Checked(recording_id, level_of(logprob), after is None, *known[key])
    return list(found.values())


def edits(before: str, after: str) -> Edits:
    """How far a text is from what it was corrected to, normalised and as written."""
    told, said = normalise(before), normalise(after)
    return (
        Levenshtein.distance(told, said),
        len(said),
        Levenshtein.distance(before, after),
        len(after),
    )


def _level(logprob: Any) -> ColumnElement[int | None]:
    """SQL: see `level_of`."""
    ends = [math.log(begin) for begin in LEVELS[1:]]
    below = [(logprob < end, level) for level, end in enumerate(ends)]
    return case((logprob.is_(None), None), *below, else_=len(ends))


def _day(at: datetime) -> date:
    """The day on this machine's clock."""
    return in_utc(at).astimezone().date()


def compute(rows: Rows, person: Person) -> Statistics:
    """The figures that a person may see: a reviewer their own pace, others everybody's."""
    timed = without_absences(rows.made)
    shown = [made for made in timed if person.may("adjudicator") or made.reviewer == person.name]
    decided = [standing for standing in rows.standing if standing.decided]
    by_level = defaultdict(list)
    for one in rows.checked:
        by_level[one.level].append(one)
    return Statistics(
        waiting=rows.waiting,
        disputed=rows.disputed,
        decided=sum(standing.segments for standing in decided),
        hours_decided=sum(standing.hours for standing in decided),
        verdicts=rows.standing,
        total=pace("", None, timed),
        total_days=[pace("", day, part) for day, part in _sorted_by(timed, lambda one: one.day)],
        people=[
            pace(name, None, part) for name, part in _sorted_by(shown, lambda one: one.reviewer)
        ],
        days=[
            pace(name, day, part)
            for (day, name), part in _sorted_by(shown, lambda one: (one.day, one.reviewer))
        ],
        errors=errors(None, rows.checked),
        levels=[
            errors(level_name(level), by_level[level])
            for level in range(len(LEVELS))
            if by_level[level]
        ],
        error_left=error_left(rows.checked, rows.left),
        agreed=agreed(rows.pairs) if person.may("adjudicator") else [],
    )


def agreed(pairs: Sequence[agreement.Pair]) -> list[Agreed]:
    """How far everybody agrees, then each two people; nothing without a second opinion."""
    if not pairs:
        return []
    each = agreement.by_reviewers(pairs).items()
    return [
        Agreed([], agreement.agreement(pairs)),
        *(Agreed(list(names), figures) for names, figures in each),
    ]


def without_absences(made: Sequence[Made]) -> list[Made]:
    """The same with times in which somebody was away cut to the person's median."""
    times = defaultdict(list)
    for one in made:
        if one.work_s is not None and one.work_s <= LONGEST_SECONDS:
            times[one.reviewer].append(one.work_s)
    usual = {reviewer: median(seconds) for reviewer, seconds in times.items()}

    def counted(one: Made) -> float | None:
        own = usual.get(one.reviewer)
        if one.work_s is None or own is None:
            return None
        return one.work_s if one.work_s <= min(LONGEST_SECONDS, AWAY_TIMES * own) else own

    return [one._replace(work_s=counted(one)) for one in made]


def pace(reviewer: str, day: date | None, made: Sequence[Made]) -> Pace:
    """Counts, minutes and rates; the rates are of what time was measured for."""
    counts = {name: sum(one.action == name for one in made) for name in (*FINAL_ACTIONS, "skip")}
    final = [one for one in made if one.action in FINAL_ACTIONS]
    hours = sum(one.work_s for one in made if one.work_s is not None) / 3600
    timed = [one for one in final if one.work_s is not None]
    audio_hours = sum(one.audio_s for one in timed) / 3600
    return Pace(
        reviewer=reviewer,
        day=day,
        **counts,
        audio_minutes=sum(one.audio_s for one in final) / 60,
        work_minutes=60 * hours,
        segments_per_hour=len(timed) / hours if hours else None,
        audio_minutes_per_hour=60 * audio_hours / hours if hours else None,
        minutes_per_audio_hour=60 * hours / audio_hours if hours and audio_hours else None,
    )


def _sorted_by(made: Iterable[Made], key: Callable[[Made], Key]) -> list[tuple[Key, list[Made]]]:
    parts: dict[Key, list[Made]] = defaultdict(list)
    for one in made:
        parts[key(one)].append(one)
    return [(name, parts[name]) for name in sorted(parts)]


def level_of(logprob: float | None) -> int | None:
    """The level of a mean log-probability, or None where there is none."""
    return None if logprob is None else bisect_right(LEVELS, math.exp(min(0.0, logprob))) - 1


def level_name(level: int) -> str:
    """A level in percent."""
    begin, end = LEVELS[level], (*LEVELS[1:], 1.0)[level]
    return f"{100 * begin:.0f}–{100 * end:.0f} %"


def errors(level: str | None, checked: Sequence[Checked]) -> Errors:
    """Rates over all that were accepted or corrected; without a character there is no rate."""
    heard = [one for one in checked if not one.rejected]
    characters = sum(one.characters for one in heard)
    as_written = sum(one.characters_as_written for one in heard)
    return Errors(
        level=level,
        segments=len(checked),
        unchanged=sum(one.edits_as_written == 0 for one in heard),
        rejected=len(checked) - len(heard),
        characters=characters,
        cer=sum(one.edits for one in heard) / characters if characters else None,
        cer_as_written=(
            sum(one.edits_as_written for one in heard) / as_written if as_written else None
        ),
    )


def error_left(checked: Sequence[Checked], left: Sequence[Left]) -> ErrorLeft:
    """Estimate what is wrong in what nobody has reviewed; see the module for how."""
    segments, characters = sum(one.segments for one in left), sum(one.characters for one in left)
    if not characters:
        return ErrorLeft(segments, 0, 0.0, why="no pseudo-label is left unreviewed")
    heard: dict[int | None, int] = defaultdict(int)
    for one in checked:
        heard[one.level] += not one.rejected and one.characters > 0
    used = [one for one in left if one.level is not None and heard[one.level] >= MIN_CHECKED]
    covered = sum(one.characters for one in used) / characters
    if covered < MIN_COVERED:
        return ErrorLeft(
            segments,
            characters,
            covered,
            why=f"only {covered:.0%} of the text that is left is of a confidence of which "
            f"{MIN_CHECKED} segments have been reviewed; review some of the surer ones too "
            "(Browse, order: surest)",
        )
    sums = _sums(checked, [one.level for one in used])
    weights = np.array([one.characters for one in used]) / sum(one.characters for one in used)
    of_segments = np.array([one.segments for one in used]) / sum(one.segments for one in used)
    whole = sums.sum(axis=0)
    estimate = ErrorLeft(
        segments,
        characters,
        covered,
        cer=float(whole[:, 0] / whole[:, 1] @ weights),
        rejects=float(whole[:, 2] / whole[:, 3] @ of_segments),
    )
    if len({one.recording_id for one in checked}) < MIN_RECORDINGS:
        why = f"no interval: what was reviewed is of fewer than {MIN_RECORDINGS} recordings"
        return replace(estimate, why=why)
    low, high = _interval(sums, weights)
    return replace(estimate, low=low, high=high)


def _sums(checked: Sequence[Checked], levels: Sequence[int | None]) -> Any:
    """[groups, levels, 4]: edits, characters, rejected and all segments of groups of recordings."""
    recordings = sorted({one.recording_id for one in checked})
    order = np.random.default_rng(0).permutation(len(recordings))
    group = {name: int(order[i]) % GROUPS for i, name in enumerate(recordings)}
    place = {level: i for i, level in enumerate(levels)}
    sums = np.zeros((min(GROUPS, len(recordings)), len(levels), 4))
    for one in checked:
        if one.level in place:
            heard = (0, 0) if one.rejected else (one.edits, one.characters)
            sums[group[one.recording_id], place[one.level]] += (*heard, one.rejected, 1)
    return sums


def _interval(sums: Any, weights: Any) -> tuple[float, float]:
    """The middle 95 % of estimates from as many groups drawn with replacement."""
    groups = len(sums)
    draws = np.random.default_rng(1).multinomial(groups, [1 / groups] * groups, size=DRAWS)
    drawn = np.einsum("dg,gls->dls", draws, sums[:, :, :2])
    whole = drawn[(drawn[:, :, 1] > 0).all(axis=1)]  # a draw may have missed a level
    low, high = np.percentile((whole[:, :, 0] / whole[:, :, 1]) @ weights, [2.5, 97.5])
    return float(low), float(high)
