"""What is reviewed next, and what a decision does. Functions on a session of the catalogue.

The order: what the verdict sends to a person, longest first; then the other pseudo-labelled
segments, those the model was least sure of first; last what the verdict drops anyway. A segment is
done with the first decision that is no skip, whoever made it; a skip moves it to the end for the
reviewer who skipped it.
"""

from collections.abc import Collection
from typing import Any

from sqlalchemy import Select, and_, case, func, or_, select
from sqlalchemy.orm import Session

from corpus.catalogue import Decision, Score, Segment, Transcript, Verdict
from corpus.errors import UserError
from corpus.text import clean_transcript

FINAL_ACTIONS = ("accept", "correct", "reject")
ACTIONS = (*FINAL_ACTIONS, "skip")

REASONS = {
    "wrong_language": "Wrong language",
    "music_or_noise": "Music or noise",
    "no_speech": "No speech",
    "overlapping_speech": "Several people at once",
    "cut_off": "Words cut off",
    "unintelligible": "Unintelligible",
    "private": "Private data",
    "offensive": "Offensive",
    "other": "Other",
}
"""Why a segment is rejected: what is stored, and what the reviewer reads."""


class UnknownSegment(UserError):
    """The catalogue has no such segment."""


class Conflict(UserError):
    """The decision is about a state of the segment that is no longer so."""


_PSEUDO = (
    select(Transcript.segment_id, func.max(Transcript.id).label("id"))
    .where(Transcript.kind == "pseudo")
    .group_by(Transcript.segment_id)
    .subquery()
)
"""The newest pseudo-label of each segment."""


def next_segment(session: Session, reviewer: str, exclude: Collection[str] = ()) -> Segment | None:
    """The segment that `reviewer` should hear next, or None when everything is decided.

    `exclude` names segments that the browser holds already.
    """
    skipped = (
        select(Decision.segment_id, func.max(Decision.id).label("id"))
        .where(Decision.reviewer == reviewer, Decision.action == "skip")
        .group_by(Decision.segment_id)
        .subquery()
    )
    rank = case((Verdict.verdict == "review", 0), (Verdict.verdict == "drop", 2), else_=1)
    return session.scalar(
        _waiting(select(Segment))
        .outerjoin(Score, and_(Score.transcript_id == _PSEUDO.c.id, Score.name == "avg_logprob"))
        .outerjoin(skipped, skipped.c.segment_id == Segment.id)
        .where(Segment.id.not_in(exclude))
        .order_by(
            func.coalesce(skipped.c.id, 0),
            rank,
            case((rank == 0, Segment.start_ms - Segment.end_ms), else_=0),
            func.coalesce(Score.value, 0.0),
            Segment.id,
        )
        .limit(1)
    )


def count_waiting(session: Session) -> int:
    """How many segments nobody has decided yet."""
    return session.scalar(_waiting(select(func.count(Segment.id)))) or 0


def _waiting(query: Select[Any]) -> Select[Any]:
    """Restrict a query on segments to those that are in the queue."""
    # Subqueries that do not refer to the outer row: each is evaluated once, not once per segment.
    # Joined, since PostgreSQL walks the list of a NOT IN that is too long for its working memory.
    decided = select(Decision.segment_id).where(Decision.action != "skip").distinct().subquery()
    return (
        query.outerjoin(Verdict, Verdict.segment_id == Segment.id)
        .outerjoin(_PSEUDO, _PSEUDO.c.segment_id == Segment.id)
        .outerjoin(decided, decided.c.segment_id == Segment.id)
        .where(
            or_(Verdict.verdict == "review", _PSEUDO.c.id.is_not(None)),
            decided.c.segment_id.is_(None),
        )
    )


def shown_transcript(segment: Segment) -> Transcript | None:
    """The transcript to correct: what the verdict chose, else the newest pseudo-label."""
    chosen = segment.verdict.transcript_id if segment.verdict else None
    return max(
        segment.transcripts,
        key=lambda one: (one.id == chosen, one.kind == "pseudo", one.id),
        default=None,
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
) -> Decision:
    """Store what `reviewer` decided about the transcript that was shown.

    An accept and a correct add a ``review`` transcript; what was shown stays as it was. The same
    `client_id` again is the same decision and changes nothing.

    Raises:
        UnknownSegment: no such segment.
        Conflict: somebody has decided it meanwhile, or the transcript is not one of the segment's.
        UserError: a correct without text, a reject without a reason, an accept of nothing.
    """
    # Where the database has row locks, two reviewers of one segment wait for each other here.
    segment = session.get(Segment, segment_id, with_for_update=True)
    if segment is None:
        raise UnknownSegment(f"no segment {segment_id}; it has been removed from the catalogue")
    repeated = session.scalar(select(Decision).filter_by(client_id=client_id))
    if repeated is not None:
        if (repeated.segment_id, repeated.reviewer) != (segment_id, reviewer):
            raise Conflict(f"client_id {client_id} belongs to another decision; make a new one")
        return repeated
    final = next((made for made in segment.decisions if made.action != "skip"), None)
    if final is not None:
        raise Conflict(f"{final.reviewer} has already decided this segment ({final.action})")
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

    decision = Decision(
        segment_id=segment_id,
        reviewer=reviewer,
        action="accept" if action == "correct" and after == before else action,
        reason=reason if action == "reject" else None,
        before=before,
        client_id=client_id,
    )
    if after:
        review = Transcript(segment_id=segment_id, kind="review", origin=reviewer, text=after)
        session.add(review)
        session.flush()
        decision.transcript_id = review.id
    session.add(decision)
    session.flush()
    return decision


def progress(session: Session) -> list[dict[str, Any]]:
    """Per reviewer: the number of decisions of each action, and minutes of audio decided."""
    milliseconds = case((Decision.action != "skip", Segment.end_ms - Segment.start_ms), else_=0)
    rows = session.execute(
        select(
            Decision.reviewer,
            *(func.sum(case((Decision.action == action, 1), else_=0)) for action in ACTIONS),
            func.sum(milliseconds),
        )
        .join(Segment, Segment.id == Decision.segment_id)
        .group_by(Decision.reviewer)
        .order_by(Decision.reviewer)
    )
    return [
        {"reviewer": reviewer, **dict(zip(ACTIONS, counts, strict=True)), "minutes": total / 60_000}
        for reviewer, *counts, total in rows
    ]
