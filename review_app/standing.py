"""How a segment stands: what is shown of it, what people have decided, who may decide it now."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, object_session

from corpus.catalogue import FINAL_ACTIONS, Decision, Segment, Transcript, Waiting, in_utc
from corpus.errors import UserError
from corpus.evidence import disagree
from corpus.verdict import DISPUTED, REJECTED, REVIEWED, reason_kind
from review_app import leases, order


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


def shown_transcript(segment: Segment) -> Transcript | None:
    """The transcript to correct: what the verdict chose, else the newest pseudo-label.

    Where a person has cut the segment, it is what they typed for it. It is never what somebody has
    decided, whatever the verdict has made of that: a second person is to judge by the sound.
    """
    chosen = segment.verdict.transcript_id if segment.verdict else None
    decided = {made.transcript_id for made in segment.decisions}
    return max(
        (one for one in segment.transcripts if one.id not in decided),
        key=lambda one: (one.kind == "review", one.id == chosen, one.kind == "pseudo", one.id),
        default=None,
    )


def decided_transcript(segment: Segment, reviewer: str | None = None) -> Transcript | None:
    """The text that people have decided on, or that one `reviewer` has; a rejected one has none."""
    holds = max(
        (made for made in _final(segment) if reviewer in (None, made.reviewer)),
        key=lambda made: (made.adjudicates, in_utc(made.made_at), made.id),
        default=None,
    )
    texts = {one.id: one for one in segment.transcripts}
    return texts.get(holds.transcript_id or 0) if holds else None


def opinions(segment: Segment) -> list[Decision]:
    """The decisions of reviewers on a segment that stand; what an adjudicator settles is none."""
    return [made for made in _final(segment) if not made.adjudicates]


def is_disputed(segment: Segment) -> bool:
    """Whether reviewers have decided differently, and nobody has settled it."""
    final = _final(segment)
    if any(made.adjudicates for made in final):
        return False
    texts = {one.id: one.text for one in segment.transcripts}
    return disagree(texts[made.transcript_id] if made.transcript_id else None for made in final)


def is_blind(segment: Segment, double_share: float, may_settle: bool) -> bool:
    """Whether somebody is not to know what others have decided on a segment.

    So it is where two people are to decide it, and for those who `may_settle` disagreements until
    two have.
    """
    wants_two = order.wants_two(segment.id, double_share)
    return wants_two and not (may_settle and len(opinions(segment)) > 1)


def told_reasons(segment: Segment, blind: bool) -> list[str]:
    """The reasons of the verdict; to who is `blind` none that tells what people have decided."""
    reasons = segment.verdict.reasons if segment.verdict else []
    of_people = {REVIEWED, REJECTED, DISPUTED}
    return [reason for reason in reasons if not (blind and reason_kind(reason) in of_people)]


def _final(segment: Segment) -> list[Decision]:
    return [m for m in segment.decisions if m.action in FINAL_ACTIONS and m.undone_by is None]


def version(
    segment: Segment, reviewer: str, double_share: float = 0.0, may_settle: bool = False
) -> int:
    """Changes whenever somebody decides the segment or takes that back.

    What others think of a segment that two people are to decide is not the reviewer's concern.
    """
    blind = is_blind(segment, double_share, may_settle)
    return max(
        (
            made.id
            for made in segment.decisions
            if made.action != "skip" and (made.reviewer == reviewer or not blind)
        ),
        default=0,
    )


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


def repeated(session: Session, client_id: str, reviewer: str, segment_id: str) -> Decision | None:
    """What was stored for a request that is made once more; None where it is the first time.

    Raises:
        Conflict: another request had this `client_id`.
    """
    made = session.scalar(select(Decision).filter_by(client_id=client_id))
    if made is not None:
        of = {made.segment_id, *(made.cut or {"from": []})["from"]}
        if segment_id not in of or made.reviewer != reviewer:
            raise Conflict(f"client_id {client_id} belongs to another decision; make a new one")
    return made


def check_free(
    segment: Segment,
    reviewer: str,
    seen: int | None,
    double_share: float,
    at: float | None,
    may_settle: bool = False,
) -> None:
    """See that `reviewer` may decide the segment now.

    Who `may_settle` disagreements may do so although everybody has decided, and where they are one
    of those who disagree, too: a small team may have nobody else.

    Raises:
        Conflict: somebody has decided it meanwhile, or has it before them.
    """
    session = object_session(segment)
    assert session is not None  # it was read in one
    final = _final(segment)
    settled = next((made for made in final if made.adjudicates), None)
    own = next((made for made in final if made.reviewer == reviewer), None)
    enough = len(final) > order.wants_two(segment.id, double_share)
    if (settled or own or enough) and not (may_settle and is_disputed(segment)):
        last = settled or own or final[-1]
        raise Conflict(
            f"{last.reviewer} has already decided this segment ({last.action})", told(session, last)
        )
    newest = version(segment, reviewer, double_share, may_settle)
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
        "made_at": in_utc(decision.made_at).isoformat(),
        "adjudicates": decision.adjudicates,
        "undone": decision.undone_by is not None,
    }
