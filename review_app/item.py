"""A segment as the review screen has it: its texts, what is around it, what was decided."""

from typing import Any
from urllib.parse import quote

from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus.catalogue import Decision, Segment
from corpus.verdict import FLAGS, GROUNDS
from review_app import leases, order, standing
from review_app.accounts import Person
from review_app.messages import Item, OtherTranscript

CONTEXT_MS = 2000
"""How much sound around a segment there is at most."""


def tell(
    session: Session,
    segment: Segment,
    person: Person,
    double_share: float,
    token: str | None,
    held_by: str | None,
) -> Item:
    """The segment with all that helps to decide it; `token` and `held_by` tell of its lease."""
    recording, shown = segment.recording, standing.shown_transcript(segment)
    settles = person.may("adjudicator")
    disputed = settles and standing.is_disputed(segment)
    opinions = standing.opinions(segment) if disputed else []
    blind = standing.is_blind(segment, double_share, settles)
    reasons = standing.told_reasons(segment, blind)
    shown_apart = {opinion.transcript_id for opinion in opinions}
    visible = [
        one
        for one in segment.transcripts
        if one.id not in shown_apart
        and not (blind and one.kind == "review" and one.origin != person.name)
    ]
    others = {
        (other.text): OtherTranscript(kind=other.kind, origin=other.origin, text=other.text)
        for other in visible
        if shown is None or other.text != shown.text
    }
    before, after = (
        _said(one, person, double_share) if one is not None else None
        for one in _neighbours(session, segment)
    )
    context_before, context_after = context(segment)
    return Item(
        segment_id=segment.id,
        transcript_id=shown.id if shown else None,
        text=shown.text if shown else "",
        kind=shown.kind if shown else None,
        language=recording.language,
        seconds=(segment.end_ms - segment.start_ms) / 1000,
        title=recording.title or recording.id,
        url=recording.url,
        licence=recording.licence,
        reasons=reasons,
        others=list(others.values()),
        audio=f"/media/{quote(segment.id, safe='')}",
        version=standing.version(segment, person.name, double_share, settles),
        lease=token,
        lease_seconds=leases.LEASE_SECONDS,
        held_by=held_by,
        start_ms=segment.start_ms,
        end_ms=segment.end_ms,
        context_before_ms=context_before,
        context_after_ms=context_after,
        words=_words(segment),
        before=before,
        after=after,
        scores={score.name: score.value for score in shown.scores} if shown else {},
        reasons_in_words=[_in_words(reason) for reason in reasons],
        history=history(session, segment, person, double_share),
        double=order.wants_two(segment.id, double_share),
        opinions=[standing.told(session, opinion) for opinion in opinions],
    )


def _words(segment: Segment) -> list[list[Any]]:
    """The words of the shown transcript, else of the newest that has any."""
    shown = standing.shown_transcript(segment)
    timed = [one for one in segment.transcripts if one.words]
    chosen = max(timed, key=lambda one: (one is shown, one.id), default=None)
    return [
        [(start - segment.start_ms) / 1000, (end - segment.start_ms) / 1000, word, probability]
        for start, end, word, probability in (chosen.words if chosen and chosen.words else [])
    ]


def context(segment: Segment) -> tuple[int, int]:
    """How much sound there is before and after a segment, in milliseconds, up to a limit."""
    rest = max(0, segment.recording.duration_ms - segment.end_ms)
    return min(CONTEXT_MS, segment.start_ms), min(CONTEXT_MS, rest)


def _neighbours(session: Session, segment: Segment) -> tuple[Segment | None, Segment | None]:
    """The segments just before and just after one."""
    same = select(Segment).filter(
        Segment.recording_id == segment.recording_id, Segment.id != segment.id
    )
    before = session.scalar(
        same.filter(Segment.start_ms < segment.start_ms).order_by(Segment.start_ms.desc()).limit(1)
    )
    after = session.scalar(
        same.filter(Segment.start_ms > segment.start_ms).order_by(Segment.start_ms).limit(1)
    )
    return before, after


def _said(segment: Segment, person: Person, double_share: float) -> str | None:
    """What is said in a segment: by what people have decided, as far as the person may know it."""
    blind = standing.is_blind(segment, double_share, person.may("adjudicator"))
    decided = standing.decided_transcript(segment, person.name if blind else None)
    shown = decided or standing.shown_transcript(segment)
    return shown.text if shown else None


def _in_words(reason: str) -> str:
    """A verdict's reason as a sentence."""
    kind, _, detail = reason.partition(":")
    told = (GROUNDS | FLAGS).get(kind)
    return f"{told[0].upper()}{told[1:]} ({detail.strip()})" if told and detail else told or reason


def history(
    session: Session, segment: Segment, person: Person, double_share: float
) -> list[dict[str, Any]]:
    """What was decided on a segment, oldest first; of a second opinion the first is no part."""
    blind = standing.is_blind(segment, double_share, person.may("adjudicator"))
    made = session.scalars(select(Decision).filter_by(segment_id=segment.id).order_by(Decision.id))
    return [
        standing.told(session, decision)
        for decision in made
        if not blind or decision.reviewer == person.name
    ]
