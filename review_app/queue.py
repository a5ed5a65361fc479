"""What is reviewed next, and what a decision does. Functions on a session of the catalogue.

The order is that of `review_app.order`. A segment is done with the first decision that is no skip,
or the second where a share of them is decided twice; a skip moves it to the end for the reviewer
who skipped it. Nobody gets a segment that another has before them, and no decision is overwritten:
taking one back is a new row.
"""

from collections.abc import Collection
from dataclasses import dataclass
from time import time
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import Session, object_session

from corpus.catalogue import (
    FINAL_ACTIONS,
    STANDS,
    Decision,
    Recording,
    Segment,
    Transcript,
    Verdict,
    Waiting,
)
from corpus.errors import UserError
from corpus.text import clean_transcript
from review_app import leases, order, recut

ACTIONS = (*FINAL_ACTIONS, "skip")

REASONS = {
    "wrong_language": "Wrong language",
    "music_or_noise": "Music or noise",
    "no_speech": "Not speech",
    "overlapping_speech": "Several people at once",
    "bad_audio": "Bad audio",
    "cut_off": "Words cut off",
    "unintelligible": "Unintelligible",
    "private": "Personal data",
    "offensive": "Offensive",
    "other": "Other",
}
"""Why a segment is rejected: what is stored, and what the reviewer reads."""


class UnknownSegment(UserError):
    """The catalogue has no such segment."""


class Conflict(UserError):
    """The decision is about a state of the segment that is no longer so.

    `theirs` is what another reviewer has made of it, where that is what stands in the way.
    """

    def __init__(self, message: str, theirs: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.theirs = theirs
        self.yours: dict[str, Any] | None = None


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
            Waiting.segment_id.not_in(exclude),
            ~decided,
            ~leases.held_by_another(reviewer, time() if at is None else at),
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


def count_waiting(session: Session) -> int:
    """How many segments nobody has decided yet."""
    return session.scalar(select(func.count()).select_from(Waiting)) or 0


def shown_transcript(segment: Segment) -> Transcript | None:
    """The transcript to correct: what the verdict chose, else the newest pseudo-label.

    Where a person has cut the segment, it is what they typed for it.
    """
    chosen = segment.verdict.transcript_id if segment.verdict else None
    decided = {made.transcript_id for made in segment.decisions}
    return max(
        segment.transcripts,
        key=lambda one: (
            one.kind == "review" and one.id not in decided,
            one.id == chosen,
            one.kind == "pseudo",
            one.id,
        ),
        default=None,
    )


def version(segment: Segment, reviewer: str, double_share: float = 0.0) -> int:
    """Changes whenever somebody decides the segment or takes that back.

    What others think of a segment that two people are to decide is not the reviewer's concern.
    """
    blind = order.wants_two(segment.id, double_share)
    return max(
        (
            made.id
            for made in segment.decisions
            if made.action != "skip" and (made.reviewer == reviewer or not blind)
        ),
        default=0,
    )


def decide(
    session: Session,
    *,
    reviewer: str,
    segment_id: str,
    transcript_id: int | None,
    action: str,
    client_id: str,
    text: str | None = None,
    reason: str | None = None,
    seen: int | None = None,
    lead_ms: int | None = None,
    start_ms: int | None = None,
    end_ms: int | None = None,
    double_share: float = 0.0,
    at: float | None = None,
) -> Decision:
    """Store what `reviewer` decided about the transcript that was shown.

    An accept and a correct add a ``review`` transcript; what was shown stays as it was. The same
    `client_id` again is the same decision and changes nothing. `seen` is the version that the
    reviewer had before them; leases of others are heeded where the present, `at`, is given. Other
    bounds than the segment's (`start_ms`, `end_ms`) with an accept or a correct make a new segment,
    on which the decision is.

    Raises:
        UnknownSegment: no such segment.
        Conflict: somebody has decided it meanwhile or has it before them, or the transcript is not
            one of the segment's.
        UserError: a correct without text, a reject without a reason, an accept of nothing.
    """
    repeated = session.scalar(select(Decision).filter_by(client_id=client_id))
    if repeated is not None:
        of = {repeated.segment_id, *(repeated.cut or {"from": []})["from"]}
        if segment_id not in of or repeated.reviewer != reviewer:
            raise Conflict(f"client_id {client_id} belongs to another decision; make a new one")
        return repeated
    segment = find(session, segment_id)
    check_free(segment, reviewer, seen, double_share, at)
    shown = next((one for one in segment.transcripts if one.id == transcript_id), None)
    if transcript_id is not None and shown is None:
        raise Conflict(f"transcript {transcript_id} does not belong to {segment_id}; load it again")

    before = shown.text if shown else None
    after = {"accept": before, "correct": clean_transcript(text or "")}.get(action)
    if action in {"accept", "correct"} and not after:
        raise UserError("there is no text; type what is said, or reject the segment")
    if action == "reject" and reason not in REASONS:
        raise UserError(f"a reject needs a reason, one of: {', '.join(REASONS)}")
    if action not in ACTIONS:
        raise UserError(f"unknown action {action!r}; one of: {', '.join(ACTIONS)}")

    bounds = (
        segment.start_ms if start_ms is None else start_ms,
        segment.end_ms if end_ms is None else end_ms,
    )
    cut = None
    leases.end_own(session, segment_id, reviewer)
    if after and bounds != (segment.start_ms, segment.end_ms):
        segment = recut.move(session, segment, *bounds)
        cut = {"from": [segment_id], "to": [segment.id]}
    decision = Decision(
        segment_id=segment.id,
        reviewer=reviewer,
        action="accept" if action == "correct" and after == before else action,
        reason=reason if action == "reject" else None,
        before=before,
        client_id=client_id,
        lead_ms=lead_ms,
        cut=cut,
    )
    if after:
        review = Transcript(kind="review", origin=reviewer, text=after)
        segment.transcripts.append(review)
        session.flush()
        decision.transcript_id = review.id
    segment.decisions.append(decision)
    session.flush()
    order.refresh_one(session, segment.id, double_share)
    return decision


def find(session: Session, segment_id: str) -> Segment:
    """The segment, for a change.

    Raises:
        UnknownSegment: no such segment.
    """
    # Where the database has row locks, two reviewers of one segment wait for each other here, in
    # the order in which a segment is handed out: its place in the queue first.
    session.execute(select(Waiting.segment_id).filter_by(segment_id=segment_id).with_for_update())
    segment = session.get(Segment, segment_id, with_for_update=True)
    if segment is None:
        raise UnknownSegment(
            f"no segment {segment_id}; it has been removed from the catalogue or cut anew"
        )
    return segment


def check_free(
    segment: Segment, reviewer: str, seen: int | None, double_share: float, at: float | None
) -> None:
    """See that `reviewer` may decide the segment now.

    Raises:
        Conflict: somebody has decided it meanwhile, or has it before them.
    """
    session = object_session(segment)
    assert session is not None  # it was read in one
    final = [m for m in segment.decisions if m.action in FINAL_ACTIONS and m.undone_by is None]
    own = next((made for made in final if made.reviewer == reviewer), None)
    if own is not None or len(final) > order.wants_two(segment.id, double_share):
        last = own or final[-1]
        raise Conflict(
            f"{last.reviewer} has already decided this segment ({last.action})", told(session, last)
        )
    newest = version(segment, reviewer, double_share)
    if seen is not None and seen != newest:
        changed = next((made for made in segment.decisions if made.id == newest), None)
        raise Conflict(
            "the segment has changed since it was shown; load it again",
            told(session, changed) if changed else None,
        )
    other = leases.holder(session, segment.id, reviewer, at) if at is not None else None
    if other is not None:
        raise Conflict(f"{other} has this segment before them now")


def told(session: Session, decision: Decision) -> dict[str, Any]:
    """A decision as one row of a history."""
    after = session.get(Transcript, decision.transcript_id) if decision.transcript_id else None
    return {
        "id": decision.id,
        "reviewer": decision.reviewer,
        "action": decision.action,
        "reason": decision.reason,
        "before": decision.before,
        "after": after.text if after else None,
        "made_at": decision.made_at.isoformat(),
        "undone": decision.undone_by is not None,
    }


def revert(
    session: Session,
    segment: Segment,
    reviewer: str,
    decision_id: int,
    double_share: float = 0.0,
) -> Decision:
    """Make an earlier decision of a segment hold again; a new row says the same.

    Raises:
        UserError: the segment has no such decision.
    """
    earlier = next((made for made in segment.decisions if made.id == decision_id), None)
    if earlier is None or earlier.action not in FINAL_ACTIONS:
        raise UserError(f"decision {decision_id} is none that {segment.id} can go back to")
    again = Decision(
        segment_id=segment.id,
        reviewer=reviewer,
        action=earlier.action,
        reason=earlier.reason,
        before=earlier.before,
        transcript_id=earlier.transcript_id,
    )
    standing = [made for made in segment.decisions if made.undone_by is None]
    segment.decisions.append(again)
    session.flush()
    for made in standing:
        if made.action in FINAL_ACTIONS:
            made.undone_by = again.id
    session.flush()
    order.refresh_one(session, segment.id, double_share)
    return again


def undo(session: Session, reviewer: str, double_share: float = 0.0) -> Segment:
    """Take back the reviewer's own newest decision that stands; returns its segment.

    Raises:
        UserError: there is none.
        Conflict: it cut a segment, and somebody has decided on what came of it.
    """
    newest = session.scalar(
        select(Decision)
        .filter(
            Decision.reviewer == reviewer,
            Decision.undone_by.is_(None),
            Decision.action.in_((*ACTIONS, "split", "merge")),
        )
        .order_by(Decision.id.desc())
        .limit(1)
        .with_for_update()
    )
    if newest is None:
        raise UserError("there is nothing to undo")
    if newest.cut is not None:
        segment = recut.take_back(session, newest)[0]
    else:
        segment = find(session, newest.segment_id)
    row = Decision(segment_id=segment.id, reviewer=reviewer, action="undo")
    segment.decisions.append(row)
    session.flush()
    newest.undone_by = row.id
    session.flush()
    order.refresh_one(session, segment.id, double_share)
    return segment
