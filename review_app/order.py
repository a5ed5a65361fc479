"""The order of the queue: how much a look at each segment is worth, kept in the table ``waiting``.

The worth rests on verdicts, scores and decisions, which the stages of `corpus` change at any time.
So it is written down in batches, off and on, and the next segment is the first row of an index
instead of a walk through everything. What is written down orders only: whether a segment is still
open is looked at when it is handed out.
"""

import math
import zlib
from collections import Counter
from collections.abc import Iterator

from sqlalchemy import and_, case, delete, func, insert, select
from sqlalchemy.orm import Session

from corpus.catalogue import (
    STANDS,
    Catalogue,
    Decision,
    Score,
    Segment,
    Transcript,
    Verdict,
    Waiting,
)

BATCH_ROWS = 2000
"""Segments that are looked at in one transaction: some hundredths of a second."""

TIER = 1000.0
"""More than any segment is worth within its tier."""

UNKNOWN = 0.5
"""How doubtful a text is about which nothing is known."""


def worth(
    verdict: str | None, seconds: float, logprob: float | None, disagreement: float | None
) -> float:
    """What reviewing a segment is expected to bring: seconds of text that may be put right.

    What the verdict leaves to people comes first and what it drops last; among equals counts how
    long the segment is times how doubtful its text. `logprob` is the model's mean log-probability,
    `disagreement` the CER between two texts.
    """
    tier = {"review": 2, "drop": 0}.get(verdict or "", 1)
    doubts = [min(1.0, disagreement)] if disagreement is not None else []
    if logprob is not None:
        doubts.append(1 - math.exp(min(0.0, logprob)))
    return tier * TIER + seconds * max(doubts, default=UNKNOWN)


def wants_two(segment_id: str, double_share: float) -> bool:
    """Whether two people are to decide a segment; the same ones each time it is asked."""
    return zlib.crc32(segment_id.encode()) < double_share * 2**32


def refresh(catalogue: Catalogue, double_share: float = 0.0) -> Iterator[int]:
    """Write the worth of all segments anew, a transaction a batch; yields the size of each."""
    last = ""
    while True:
        with catalogue.session() as session:
            ids = session.scalars(
                select(Segment.id).filter(Segment.id > last).order_by(Segment.id).limit(BATCH_ROWS)
            ).all()
            if not ids:
                return
            refresh_span(session, ids[0], ids[-1], double_share)
        last = ids[-1]
        yield len(ids)


def refresh_span(session: Session, first: str, last: str, double_share: float = 0.0) -> None:
    """Write the worth of the segments with ids from `first` to `last`."""
    newest = (
        select(Transcript.segment_id, func.max(Transcript.id).label("id"))
        .filter(Transcript.kind == "pseudo", Transcript.segment_id.between(first, last))
        .group_by(Transcript.segment_id)
        .subquery()
    )
    doubts = (
        select(
            Transcript.segment_id,
            func.max(case((Score.name.in_(("cer", "agreement")), Score.value))).label("cer"),
        )
        .join(Score, Score.transcript_id == Transcript.id)
        .filter(Transcript.segment_id.between(first, last))
        .group_by(Transcript.segment_id)
        .subquery()
    )
    opinions = Counter(
        session.scalars(
            select(Decision.segment_id).filter(STANDS, Decision.segment_id.between(first, last))
        )
    )
    typed = select(Transcript.segment_id).filter(
        Transcript.kind == "review", Transcript.segment_id.between(first, last)
    )
    rows = session.execute(
        select(
            Segment.id,
            Segment.recording_id,
            Segment.end_ms - Segment.start_ms,
            Verdict.verdict,
            Score.value,
            doubts.c.cer,
        )
        .outerjoin(Verdict, Verdict.segment_id == Segment.id)
        .outerjoin(newest, newest.c.segment_id == Segment.id)
        .outerjoin(Score, and_(Score.transcript_id == newest.c.id, Score.name == "avg_logprob"))
        .outerjoin(doubts, doubts.c.segment_id == Segment.id)
        .filter(
            Segment.id.between(first, last),
            (Verdict.verdict == "review") | newest.c.id.is_not(None) | Segment.id.in_(typed),
        )
    ).all()
    session.execute(delete(Waiting).filter(Waiting.segment_id.between(first, last)))
    waiting = [
        {
            "segment_id": key,
            "recording_id": recording_id,
            "worth": worth(verdict, milliseconds / 1000, logprob, cer),
        }
        for key, recording_id, milliseconds, verdict, logprob, cer in rows
        if opinions[key] < 1 + wants_two(key, double_share)
    ]
    if waiting:
        session.execute(insert(Waiting), waiting)


def refresh_one(session: Session, segment_id: str, double_share: float = 0.0) -> None:
    """Write the worth of one segment, or take it out of the queue once it is settled."""
    session.execute(delete(Waiting).filter_by(segment_id=segment_id))  # superseded ones, too
    refresh_span(session, segment_id, segment_id, double_share)


def state(session: Session) -> tuple[int, int, int]:
    """Changes when there are new segments, transcripts or verdicts."""
    return (
        session.scalar(select(func.count()).select_from(Segment)) or 0,
        session.scalar(select(func.max(Transcript.id))) or 0,
        session.scalar(select(func.count()).select_from(Verdict)) or 0,
    )
