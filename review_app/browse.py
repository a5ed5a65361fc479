"""Segments in a list: which a person wants to see, in which order, page by page.

The filters and the order are one walk through the table ``overview``, which `review_app.order`
keeps; what a page shows of its fifty segments is read from where it is kept. A reviewer does not
see what another thinks of a segment that both are to decide before they have decided it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import Query
from sqlalchemy import ColumnElement, Select, case, exists, func, or_, select
from sqlalchemy.orm import Session, aliased, defer, joinedload, selectinload

from corpus.catalogue import (
    FINAL_ACTIONS,
    Decision,
    Overview,
    Recording,
    Segment,
    Transcript,
    Waiting,
    in_utc,
)
from review_app import queue, standing
from review_app.accounts import Person

PAGE_ROWS = 50

MAX_CHOICES = 500
"""Of one kind; a longer list helps nobody to choose."""

_Doubled, _Own = aliased(Overview), aliased(Decision)  # for a query within one of the same tables

Sort = Literal["worth", "cer", "logprob", "seconds", "decided"]
State = Literal["waiting", "decided", "accept", "correct", "reject", "skip"]


@dataclass(frozen=True)
class Listing:
    """Which page of which list; an empty field wants all."""

    state: State | None = None
    """How it was decided; ``waiting``: by nobody yet."""
    reviewer: str | None = None
    """Who has decided it, or skipped it."""
    sort: Sort = "worth"
    """``decided``: by the newest decision."""
    descending: bool = True
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1


def page(
    session: Session, person: Person, filters: queue.Filters, listing: Listing
) -> tuple[list[dict[str, Any]], int]:
    """The rows of a page, and how many there are on all pages; without a value comes last."""
    hidden = _hidden(person)
    made = _visible_decision(person, hidden)
    found: Select[Any, Any] = select(Overview.segment_id, made.label("made")).filter(
        *_wanted(person, filters, hidden)
    )
    state = _decided_as(person, filters, listing)
    if state:
        found = found.outerjoin(Decision, Decision.id == made).filter(*state)
    # A search in the texts takes longer than all else, and is done once.
    count: ColumnElement[int] = func.count().over() if filters.q else _count(found)
    keys: dict[Sort, ColumnElement[Any]] = {
        "worth": Overview.worth.expression,
        "cer": Overview.cer.expression,
        "logprob": Overview.logprob.expression,
        "seconds": Overview.milliseconds.expression,
        "decided": made,
    }
    key = keys[listing.sort]
    by = (key.desc() if listing.descending else key.asc()).nulls_last()
    here = session.execute(
        found.add_columns(count)
        .order_by(by, Overview.segment_id)
        .offset(PAGE_ROWS * (listing.page - 1))
        .limit(PAGE_ROWS)
    ).all()
    if not here and listing.page > 1:
        return [], page(session, person, filters, replace(listing, page=1))[1]
    shown = _rows(session, [(id, decision) for id, decision, _ in here], hidden)
    return shown, here[0][2] if here else 0


def choices(session: Session) -> dict[str, list[str]]:
    """What there is to choose from: the values of each filter in alphabetical order."""
    columns = {
        "source": Recording.source,
        "channel": Recording.channel,
        "speaker": Recording.speaker,
        "language": Recording.language,
        "reviewer": Decision.reviewer,
    }
    return {
        name: [
            value
            for value in session.scalars(
                select(column).distinct().order_by(column).limit(MAX_CHOICES)
            )
            if value
        ]
        for name, column in columns.items()
    }


def _count(found: Select[Any, Any]) -> ColumnElement[int]:
    return select(func.count()).select_from(found.subquery()).scalar_subquery()


def _hidden(person: Person) -> Select[str]:
    """The segments of which this person must not know what others think of them.

    See `standing.is_blind`; here they know it once they have decided.
    """
    of_it = (
        _Own.segment_id == _Doubled.segment_id,
        _Own.action.in_(FINAL_ACTIONS),
        _Own.undone_by.is_(None),
    )
    knows: ColumnElement[bool] = exists().where(*of_it, _Own.reviewer == person.name)
    if person.may("adjudicator"):
        opinions = select(func.count(_Own.id)).filter(*of_it).scalar_subquery()
        knows = knows | (opinions > 1)
    return select(_Doubled.segment_id).filter(_Doubled.double, ~knows)


def _rests_on(hidden: Select[str]) -> ColumnElement[bool]:
    """Whether the verdict may tell what others have decided on one of the hidden segments."""
    final = exists().where(_Own.id == Overview.decision_id, _Own.action.in_(FINAL_ACTIONS))
    return final & Overview.segment_id.in_(hidden)


def _visible_decision(person: Person, hidden: Select[str]) -> ColumnElement[int]:
    own_skip = (
        select(func.max(_Own.id))
        .filter(
            _Own.segment_id == Overview.segment_id,
            _Own.reviewer == person.name,
            _Own.action == "skip",
            _Own.undone_by.is_(None),
        )
        .scalar_subquery()
    )
    return case((Overview.segment_id.in_(hidden), own_skip), else_=Overview.decision_id)


def _wanted(
    person: Person, filters: queue.Filters, hidden: Select[str]
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    recordings = queue.recordings(filters)
    if recordings is not None:
        wanted.append(Overview.recording_id.in_(recordings))
    if filters.verdict:
        wanted += [Overview.verdict == filters.verdict, ~_rests_on(hidden)]
    if filters.conflicts:
        disputed = select(Waiting.segment_id).filter(Waiting.disputed)
        wanted.append(Overview.segment_id.in_(disputed))
    if filters.q:
        texts = select(Transcript.segment_id).filter(
            Transcript.text.icontains(filters.q, autoescape=True)
        )
        own = (Transcript.kind != "review") | (Transcript.origin == person.name)
        texts = texts.filter(or_(own, Transcript.segment_id.not_in(hidden)))
        wanted.append(Overview.segment_id.in_(texts))
    return wanted


def _decided_as(
    person: Person, filters: queue.Filters, listing: Listing
) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if listing.state == "waiting":
        wanted.append(Decision.id.is_(None) | (Decision.action == "skip"))
    elif listing.state == "decided":
        wanted.append(Decision.action.in_(FINAL_ACTIONS))
    elif listing.state:
        wanted.append(Decision.action == listing.state)
    if listing.reviewer:
        wanted.append(Decision.reviewer == listing.reviewer)
    if filters.mine:
        wanted.append((Decision.action == "skip") & (Decision.reviewer == person.name))
    return wanted


def _rows(
    session: Session, here: Sequence[tuple[str, int | None]], hidden: Select[str]
) -> list[dict[str, Any]]:
    ids = [key for key, _ in here]
    segments = {
        segment.id: segment
        for segment in session.scalars(
            select(Segment)
            .filter(Segment.id.in_(ids))
            .options(
                joinedload(Segment.recording),
                joinedload(Segment.verdict),
                selectinload(Segment.transcripts).options(defer(Transcript.words)),
                selectinload(Segment.decisions),
            )
        ).unique()
    }
    overviews = session.scalars(select(Overview).filter(Overview.segment_id.in_(ids)))
    known = {row.segment_id: row for row in overviews}
    secret = select(Overview.segment_id).filter(Overview.segment_id.in_(ids), _rests_on(hidden))
    without_verdict = set(session.scalars(secret))
    return [
        _row(segments[key], known[key], decision_id, key not in without_verdict)
        for key, decision_id in here
        if key in segments  # else it was cut anew a moment ago
    ]


def _row(
    segment: Segment, known: Overview, decision_id: int | None, with_verdict: bool
) -> dict[str, Any]:
    made = next((one for one in segment.decisions if one.id == decision_id), None)
    shown = standing.shown_transcript(segment)
    if made is not None and made.transcript_id is not None:
        shown = next(one for one in segment.transcripts if one.id == made.transcript_id)
    recording = segment.recording
    return {
        "segment_id": segment.id,
        "title": recording.title or recording.id,
        "text": shown.text if shown else "",
        "language": recording.language,
        "seconds": (segment.end_ms - segment.start_ms) / 1000,
        "verdict": segment.verdict.verdict if segment.verdict and with_verdict else None,
        "logprob": known.logprob,
        "cer": known.cer,
        "decision": made
        and {
            "action": made.action,
            "reviewer": made.reviewer,
            "reason": made.reason,
            "made_at": in_utc(made.made_at).isoformat(timespec="seconds"),
        },
        "audio": f"/media/{quote(segment.id, safe='')}",
    }
