"""What a decision does. Functions on a session of the catalogue.

A segment is done with the first decision that is no skip, or the second where a share of them is
decided twice. No decision is overwritten: taking one back is a new row.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus.catalogue import FINAL_ACTIONS, Decision, Segment, Transcript
from corpus.errors import UserError
from corpus.text import clean_transcript
from review_app import leases, order, recut
from review_app.standing import Conflict, check_free, find, is_disputed, repeated

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
    may_settle: bool = False,
    at: float | None = None,
) -> Decision:
    """Store what `reviewer` decided about the transcript that was shown.

    An accept and a correct add a ``review`` transcript; what was shown stays as it was. The same
    `client_id` again is the same decision and changes nothing. `seen` is the version that the
    reviewer had before them; leases of others are heeded where the present, `at`, is given. Other
    bounds than the segment's (`start_ms`, `end_ms`) with an accept or a correct make a new segment,
    on which the decision is. What reviewers disagree on is settled by it where the reviewer
    `may_settle` that.

    Raises:
        UnknownSegment: no such segment.
        Conflict: somebody has decided it meanwhile or has it before them, or the transcript is not
            one of the segment's.
        UserError: a correct without text, a reject without a reason, an accept of nothing.
    """
    if (before_this := repeated(session, client_id, reviewer, segment_id)) is not None:
        return before_this
    segment = find(session, segment_id)
    check_free(segment, reviewer, seen, double_share, at, may_settle)
    settles = may_settle and is_disputed(segment) and action in FINAL_ACTIONS
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
        cut = {"from": [segment_id], "to": [segment.id], "texts": [before or ""]}
        if before:  # for who is to decide it, too
            segment.transcripts.append(Transcript(kind="review", origin=reviewer, text=before))
    decision = Decision(
        segment_id=segment.id,
        reviewer=reviewer,
        action="accept" if action == "correct" and after == before else action,
        reason=reason if action == "reject" else None,
        before=before,
        client_id=client_id,
        lead_ms=lead_ms,
        cut=cut,
        adjudicates=settles,
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


def revert(
    session: Session,
    segment: Segment,
    reviewer: str,
    decision_id: int,
    double_share: float = 0.0,
    may_settle: bool = False,
) -> Decision:
    """Make an earlier decision of a segment hold again; a new row says the same.

    Where reviewers disagree and `reviewer` `may_settle` that, their opinions stay beside it.

    Raises:
        UserError: the segment has no such decision.
    """
    earlier = next((made for made in segment.decisions if made.id == decision_id), None)
    if earlier is None or earlier.action not in FINAL_ACTIONS:
        raise UserError(f"decision {decision_id} is none that {segment.id} can go back to")
    settles = may_settle and (earlier.adjudicates or is_disputed(segment))
    replaced = [
        made
        for made in segment.decisions
        if made.undone_by is None
        and made.action in FINAL_ACTIONS
        and (made.adjudicates or not settles)
    ]
    # The segment is what one of them has made by other bounds: that is now this one's doing.
    cut = next((made.cut for made in replaced if made.cut is not None), None)
    again = Decision(
        segment_id=segment.id,
        reviewer=reviewer,
        action=earlier.action,
        reason=earlier.reason,
        before=earlier.before,
        transcript_id=earlier.transcript_id,
        adjudicates=settles,
        cut=cut and {"from": cut["from"], "to": cut["to"]},
    )
    segment.decisions.append(again)
    session.flush()
    for made in replaced:
        made.undone_by = again.id
    session.flush()
    order.refresh_one(session, segment.id, double_share)
    return again


def undo(session: Session, reviewer: str, double_share: float = 0.0) -> Segment:
    """Take back the reviewer's own newest decision that stands; returns its segment.

    What that decision had replaced holds again.

    Raises:
        UserError: there is none.
        Conflict: it cut a segment, and somebody has decided on what came of it.
    """
    is_there = select(Segment.id).filter(Segment.id == Decision.segment_id).exists()
    newest = session.scalar(
        select(Decision)
        .filter(
            Decision.reviewer == reviewer,
            Decision.undone_by.is_(None),
            # What somebody else has cut since is not the reviewer's to bring back.
            is_there | Decision.cut.is_not(None),
            Decision.action.in_((*ACTIONS, "split", "merge")),
        )
        .order_by(Decision.made_at.desc(), Decision.id.desc())
        .limit(1)
        .with_for_update()
    )
    if newest is None:
        raise UserError("there is nothing to undo")
    if newest.cut is not None:
        segment = recut.take_back(session, newest, double_share)[0]
    else:
        segment = find(session, newest.segment_id)
    row = Decision(segment_id=segment.id, reviewer=reviewer, action="undo")
    segment.decisions.append(row)
    session.flush()
    newest.undone_by = row.id
    if newest.cut is None:  # else what it had replaced was on the segment that is hidden now
        _bring_back(segment, newest)
    session.flush()
    order.refresh_one(session, segment.id, double_share)
    return segment


def _bring_back(segment: Segment, undone: Decision) -> None:
    """Let hold again what a decision had replaced, unless its reviewer has decided anew since."""
    final = [made for made in segment.decisions if made.action in FINAL_ACTIONS]
    anew = {(made.reviewer, made.adjudicates) for made in final if made.undone_by is None}
    for made in final:
        if made.undone_by == undone.id and (made.reviewer, made.adjudicates) not in anew:
            made.undone_by = None
