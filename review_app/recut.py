"""Segments with new bounds: one is split, two are merged, or one is moved.

New segments stand in the place of the old ones, which stay in the catalogue, superseded: no query
finds them, and taking the decision back brings them to light again.
"""

from collections.abc import Sequence
from time import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from corpus.catalogue import FINAL_ACTIONS, Decision, Segment, Transcript, segment_id
from corpus.errors import UserError
from corpus.segment import MAX_SECONDS
from corpus.text import clean_transcript
from review_app import order
from review_app.standing import Conflict, check_free, find, repeated, shown_transcript, told

MIN_SEGMENT_MS = 100
"""Shorter ones hold no word."""


def split(
    session: Session,
    *,
    reviewer: str,
    segment_id: str,
    at_ms: int,
    texts: Sequence[str],
    client_id: str,
    seen: int | None = None,
    double_share: float = 0.0,
    may_settle: bool = False,
    at: float | None = None,
) -> list[Segment]:
    """Cut a segment in two at `at_ms` of the recording; returns both parts, still to be decided.

    The same `client_id` again is the same cut and changes nothing.

    Raises:
        UnknownSegment, Conflict: see `standing.find` and `standing.check_free`.
        UserError: the cut lies not inside, or there are not two texts.
    """
    if (before_this := repeated(session, client_id, reviewer, segment_id)) is not None:
        return _made_by(session, before_this)
    whole = find(session, segment_id)
    check_free(whole, reviewer, seen, double_share, time() if at is None else at, may_settle)
    parts = [clean_transcript(text) for text in texts]
    if len(parts) != 2 or not all(parts):
        raise UserError("a split needs a text for each of the two parts")
    spans = [(whole.start_ms, at_ms), (at_ms, whole.end_ms)]
    new = [_stand_in(session, whole, span) for span in spans]
    made = Decision(action="split", reviewer=reviewer, client_id=client_id)
    _supersede(session, made, [whole], new, parts, double_share)
    return new


def merge(
    session: Session,
    *,
    reviewer: str,
    segment_id: str,
    client_id: str,
    seen: int | None = None,
    double_share: float = 0.0,
    may_settle: bool = False,
    at: float | None = None,
) -> list[Segment]:
    """Make one of a segment and the next of its recording; returns it, still to be decided.

    The same `client_id` again is the same merge and changes nothing.

    Raises:
        UnknownSegment, Conflict: see `standing.find` and `standing.check_free`, for either one.
        UserError: there is no next one, or both together are longer than a segment may be.
    """
    if (before_this := repeated(session, client_id, reviewer, segment_id)) is not None:
        return _made_by(session, before_this)
    present = time() if at is None else at
    one = find(session, segment_id)
    check_free(one, reviewer, seen, double_share, present, may_settle)
    following = session.scalar(
        select(Segment.id)
        .filter(Segment.recording_id == one.recording_id, Segment.start_ms >= one.end_ms)
        .order_by(Segment.start_ms)
        .limit(1)
    )
    if following is None:
        raise UserError("there is no next segment in this recording")
    two = find(session, following)
    check_free(two, reviewer, None, double_share, present, may_settle)
    shown = [shown_transcript(segment) for segment in (one, two)]
    new = _stand_in(session, one, (one.start_ms, two.end_ms))
    text = " ".join(transcript.text for transcript in shown if transcript and transcript.text)
    made = Decision(action="merge", reviewer=reviewer, client_id=client_id)
    _supersede(session, made, [one, two], [new], [text], double_share)
    return [new]


def move(session: Session, old: Segment, start_ms: int, end_ms: int) -> Segment:
    """A segment with other bounds in the place of `old`; who calls notes the decision.

    Raises:
        UserError: the bounds make no segment.
        Conflict: there is a segment with these bounds already.
    """
    new = _stand_in(session, old, (start_ms, end_ms))
    old.superseded = True
    session.flush()
    order.refresh_one(session, old.id)
    return new


def take_back(session: Session, decision: Decision, double_share: float = 0.0) -> list[Segment]:
    """Bring to light what was superseded by `decision`, in the place of what it had made.

    Raises:
        Conflict: what it had made is decided or cut anew by now.
    """
    assert decision.cut is not None  # the caller looked
    before, after = decision.cut["from"], decision.cut["to"]
    later = session.scalar(
        select(Decision).filter(
            Decision.segment_id.in_(after),
            Decision.id != decision.id,
            Decision.undone_by.is_(None),
            Decision.action.in_((*FINAL_ACTIONS, "split", "merge")),
        )
    )
    if later is not None:
        raise Conflict(
            f"{later.reviewer} has decided on the new segment meanwhile ({later.action})",
            told(session, later),
        )
    hidden = select(Segment.id).filter(Segment.id.in_(after), Segment.superseded)
    if session.scalar(hidden.limit(1), execution_options={"superseded": True}) is not None:
        raise Conflict("the new segment has been cut anew meanwhile")
    for ids, superseded in ((after, True), (before, False)):
        session.execute(
            update(Segment).filter(Segment.id.in_(ids)).values(superseded=superseded),
            execution_options={"synchronize_session": "fetch", "superseded": True},
        )
    session.flush()
    for key in (*after, *before):
        order.refresh_one(session, key, double_share)
    return [find(session, key) for key in before]


def _stand_in(session: Session, old: Segment, span: tuple[int, int]) -> Segment:
    """A new segment of the recording of `old`, or one of before that had the same bounds."""
    start_ms, end_ms = span
    length = end_ms - start_ms
    if start_ms < 0 or end_ms > old.recording.duration_ms or length < MIN_SEGMENT_MS:
        raise UserError("the bounds leave no sound; move them apart, within the recording")
    if length > MAX_SECONDS * 1000:
        raise UserError(f"{length / 1000:.1f} s are more than the {MAX_SECONDS:.0f} s of a segment")
    key = segment_id(old.recording_id, start_ms, end_ms)
    new = session.scalar(select(Segment).filter_by(id=key), execution_options={"superseded": True})
    if new is None:
        new = Segment(id=key, recording_id=old.recording_id, start_ms=start_ms, end_ms=end_ms)
        session.add(new)
    elif not new.superseded:
        raise Conflict(f"there is a segment {key} already")
    new.superseded = False
    session.flush()
    return new


def _made_by(session: Session, decision: Decision) -> list[Segment]:
    if decision.cut is None or decision.undone_by is not None:
        raise Conflict("that cut has been taken back since; load the segment again")
    return [find(session, key) for key in decision.cut["to"]]


def _supersede(
    session: Session,
    made: Decision,
    old: list[Segment],
    new: list[Segment],
    texts: Sequence[str],
    double_share: float,
) -> None:
    """Note a split or a merge, on the first of the old segments, with what is typed for the new."""
    shown = shown_transcript(old[0])
    made.segment_id = old[0].id
    made.before = shown.text if shown else None
    made.cut = {
        "from": [one.id for one in old],
        "to": [one.id for one in new],
        "texts": list(texts),
    }
    session.add(made)
    for one, text in zip(new, texts, strict=True):
        if text:
            typed = Transcript(kind="review", origin=made.reviewer, text=text)
            one.transcripts.append(typed)
    for one in old:
        one.superseded = True
    session.flush()
    for one in (*old, *new):
        order.refresh_one(session, one.id, double_share)
