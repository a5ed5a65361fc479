"""Which segment a reviewer gets next. Functions on a session of the catalogue.

The order is that of `review_app.order`. A skip moves a segment to the end for the reviewer who
skipped it. Nobody gets a segment that another has before them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from time import time

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, aliased

from corpus.catalogue import STANDS, Decision, Recording, Segment, Transcript, Verdict, Waiting
from review_app import leases, order

NEAR = 1000
"""So many segments at the top of the queue are searched for words first."""

_First = aliased(Waiting)


@dataclass(frozen=True)
class Filters:
    """Which segments a reviewer wants; an empty field wants all."""

    source: str | None = None
    channel: str | None = None
    """Its name or its id."""
    speaker: str | None = None
    language: str | None = None
    verdict: str | None = None
    q: str | None = None
    """Words that a transcript of the segment has, in any case."""
    mine: bool = False
    """Only what the reviewer has skipped."""
    conflicts: bool = False
    """Only what people have decided on and disagree, which is for adjudicators; else never that."""


def next_segment(
    session: Session,
    reviewer: str,
    exclude: Collection[str] = (),
    filters: Filters = Filters(),
    at: float | None = None,
) -> Segment | None:
    """The segment that `reviewer` should hear next, or None when there is none left for them.

    `exclude` names segments that the browser holds already, `at` is the present (seconds since
    1970).
    """
    mine = (Decision.segment_id == Waiting.segment_id) & (Decision.reviewer == reviewer)
    decided = exists().where(mine, STANDS)
    skipped = (mine, Decision.action == "skip", Decision.undone_by.is_(None))
    is_open = [
        Waiting.segment_id.not_in(exclude),
        ~leases.held_by_another(reviewer, time() if at is None else at),
        *([] if filters.conflicts else [~decided]),
    ]

    def first(*conditions: ColumnElement[bool]) -> Select[str]:
        # SQLite looks at conditions in their order; what leaves out most comes first.
        return (
            select(Waiting.segment_id)
            .filter(Waiting.disputed == filters.conflicts, *conditions, *is_open)
            .limit(1)
            # Where the database has row locks, reviewers who ask at once get different segments.
            .with_for_update(of=Waiting, skip_locked=True)
        )

    found = None
    wanted, ways = _wanted(filters), _said(filters)
    if not filters.mine:
        best = Waiting.worth.desc(), Waiting.segment_id.desc()
        for said in ways:
            here = first(*wanted, *said, ~exists().where(*skipped))
            found = found or session.scalar(here.order_by(*best))
    if found is None:
        last_skip = select(func.max(Decision.id)).where(*skipped).scalar_subquery()
        mine_skipped = select(Decision.segment_id).filter(
            Decision.reviewer == reviewer, Decision.action == "skip"
        )
        here = first(
            Waiting.segment_id.in_(mine_skipped),
            exists().where(*skipped),
            *wanted,
            *ways[-1],
        )
        found = session.scalar(here.order_by(last_skip))
    if found is None:
        return None
    # Where rows are locked, somebody may have taken it between the look and the lock.
    if leases.holder(session, found, reviewer, time() if at is None else at) is not None:
        return next_segment(session, reviewer, (*exclude, found), filters, at)
    return session.get(Segment, found)


def recordings(filters: Filters) -> Select[str] | None:
    """The ids of the recordings that the filters want; None where they want all."""
    wanted: list[ColumnElement[bool]] = []
    if filters.channel:
        wanted.append(
            (Recording.channel == filters.channel) | (Recording.channel_id == filters.channel)
        )
    for column, value in (
        (Recording.source, filters.source),
        (Recording.speaker, filters.speaker),
        (Recording.language, filters.language),
    ):
        if value:
            wanted.append(column == value)
    return select(Recording.id).filter(*wanted) if wanted else None


def _wanted(filters: Filters) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    of_recordings = recordings(filters)
    if of_recordings is not None:
        wanted.append(Waiting.recording_id.in_(of_recordings))
    if filters.verdict:
        # The order goes by the verdict first, so that no other segments are looked at.
        start, end = order.tier(filters.verdict)
        of_it = Verdict.segment_id == Waiting.segment_id, Verdict.verdict == filters.verdict
        fits: ColumnElement[bool] = exists().where(*of_it)
        if filters.verdict == "review":  # and what waits for a second opinion
            fits = fits | exists().where(Decision.segment_id == Waiting.segment_id, STANDS)
        wanted += [Waiting.worth >= start, Waiting.worth < end, fits]
    return wanted


def _said(filters: Filters) -> list[list[ColumnElement[bool]]]:
    """Conditions for the words in a text: what the first misses the next may find.

    A common word is found near the top of the queue, one by one. For a rare one all texts are read
    once, which takes as long for any word.
    """
    if not filters.q:
        return [[]]
    fits = Transcript.text.icontains(filters.q, autoescape=True)
    top = (
        select(_First.worth)
        .filter(_First.disputed == filters.conflicts)
        .order_by(_First.worth.desc())
        .offset(NEAR)
        .limit(1)
        .scalar_subquery()
    )
    one_by_one = exists().where(Transcript.segment_id == Waiting.segment_id, fits)
    at_once = Waiting.segment_id.in_(select(Transcript.segment_id).filter(fits))
    return [[Waiting.worth >= top, one_by_one], [at_once]]


def count_waiting(session: Session, disputed: bool = False) -> int:
    """How many segments wait for reviewers, or for an adjudicator since reviewers disagree."""
    everything = select(func.count()).select_from(Waiting)
    of_adjudicators = everything.filter(Waiting.disputed)
    # Told with every decision: all rows are counted faster than those of one kind, if it is most.
    count: ColumnElement[int] = of_adjudicators.scalar_subquery()
    if not disputed:
        count = everything.scalar_subquery() - count
    return session.scalar(select(count)) or 0


def disputed_segments(session: Session, limit: int) -> list[Segment]:
    """What waits for an adjudicator, in the order of the queue."""
    query = (
        select(Segment)
        .join(Waiting, Waiting.segment_id == Segment.id)
        .filter(Waiting.disputed)
        .order_by(Waiting.worth.desc(), Waiting.segment_id.desc())
        .limit(limit)
    )
    return list(session.scalars(query))
