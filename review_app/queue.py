"""Which segment a reviewer gets next. Functions on a session of the catalogue.

The order is that of `review_app.order`. A skip moves a segment to the end for the reviewer who
skipped it. Nobody gets a segment that another has before them.
"""

from collections.abc import Collection
from dataclasses import dataclass
from time import time

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session

from corpus.catalogue import STANDS, Decision, Recording, Segment, Transcript, Verdict, Waiting
from review_app import leases


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
    here = (
        select(Waiting.segment_id)
        .filter(
            Waiting.disputed == filters.conflicts,
            Waiting.segment_id.not_in(exclude),
            ~leases.held_by_another(reviewer, time() if at is None else at),
            *([] if filters.conflicts else [~decided]),
            *_wanted(filters),
        )
        .limit(1)
        # Where the database has row locks, reviewers who ask at once get different segments.
        .with_for_update(of=Waiting, skip_locked=True)
    )
    found = None
    if not filters.mine:
        found = session.scalar(
            here.filter(~exists().where(*skipped)).order_by(
                Waiting.worth.desc(), Waiting.segment_id.desc()
            )
        )
    if found is None:
        last_skip = select(func.max(Decision.id)).where(*skipped).scalar_subquery()
        mine_skipped = select(Decision.segment_id).filter(
            Decision.reviewer == reviewer, Decision.action == "skip"
        )
        found = session.scalar(
            here.filter(Waiting.segment_id.in_(mine_skipped), exists().where(*skipped)).order_by(
                last_skip
            )
        )
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
        wanted.append(
            exists().where(
                Verdict.segment_id == Waiting.segment_id, Verdict.verdict == filters.verdict
            )
        )
    if filters.q:
        wanted.append(
            exists().where(
                Transcript.segment_id == Waiting.segment_id,
                Transcript.text.icontains(filters.q, autoescape=True),
            )
        )
    return wanted


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
