"""The order of the queue: how much a look at each segment is worth, kept in the table ``waiting``.

The table ``overview`` is kept beside it, a row for every segment with what lists of them show. The
worth rests on verdicts, scores and decisions, which the stages of `corpus` change at any time.
So it is written down in batches, off and on, and the next segment is the first row of an index
instead of a walk through everything. What is written down orders only: whether a segment is still
open is looked at when it is handed out.
"""

import math
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from sqlalchemy import and_, case, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from corpus.catalogue import (
    STANDS,
    Catalogue,
    Decision,
    Overview,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    Waiting,
)
from corpus.evidence import disagree

BATCH_ROWS = 250
"""Segments that are looked at in one transaction: a hundredth of a second or two."""

PAUSES = 4
"""How many times as long as a batch the pause after it is."""

IDLE_SECONDS = 30
"""Between one round through everything and the next."""

TIER = 1000.0
"""More than any segment is worth within its tier."""

HELD_OUT = TIER / 2
"""A wrong label in train is one of many; in dev or test it is wrong about every model."""

UNKNOWN = 0.5
"""How doubtful a text is about which nothing is known."""


Table = type[Waiting] | type[Overview]
Changes = tuple[Table, list[dict[str, Any]], set[str]]
"""A table, the rows that are not in it as they should be, and the ids of those too many."""


def worth(
    verdict: str | None,
    seconds: float,
    logprob: float | None,
    disagreement: float | None,
    *,
    held_out: bool = False,
) -> float:
    """What reviewing a segment is expected to bring: seconds of text that may be put right.

    What the verdict leaves to people comes first and what it drops last. Among equals comes first
    what models are tested on, then counts how long the segment is times how doubtful its text.
    `logprob` is the model's mean log-probability,
    `disagreement` the CER between two texts.
    """
    start, _ = tier(verdict)
    doubts = [min(1.0, disagreement)] if disagreement is not None else []
    if logprob is not None:
        doubts.append(1 - math.exp(min(0.0, logprob)))
    return start + held_out * HELD_OUT + seconds * max(doubts, default=UNKNOWN)


def tier(verdict: str | None) -> tuple[float, float]:
    """Between which worths segments with a verdict are: from the first, below the second."""
    number = {"review": 2, "drop": 0}.get(verdict or "", 1)
    return number * TIER, (number + 1) * TIER


def wants_two(segment_id: str, double_share: float) -> bool:
    """Whether two people are to decide a segment; the same ones each time it is asked."""
    return zlib.crc32(segment_id.encode()) < double_share * 2**32


def refresh(catalogue: Catalogue, double_share: float = 0.0) -> Iterator[int]:
    """Write the worth of all segments anew, a transaction a batch; yields the size of each."""
    last = ""
    while True:
        with catalogue.reading() as session:
            ids = session.scalars(
                select(Segment.id).filter(Segment.id > last).order_by(Segment.id).limit(BATCH_ROWS)
            ).all()
            if not ids:
                return
            written = not any(
                changed or gone
                for _, changed, gone in _changes(session, ids[0], ids[-1], double_share)
            )
        # Most is as it was; reviewers wait for nothing but what is not.
        if not written:
            with catalogue.session() as session:
                refresh_span(session, ids[0], ids[-1], double_share)
        last = ids[-1]
        yield len(ids)


def refresh_span(session: Session, first: str, last: str, double_share: float | None = 0.0) -> None:
    """Write the worth of the segments with ids from `first` to `last`, and their overview.

    Without a `double_share` those stay double that are; what has no overview yet is left out.
    """
    for table, changed, gone in _changes(session, first, last, double_share):
        if gone:
            here = table.segment_id.in_(gone)
            session.execute(
                delete(table).filter(here), execution_options={"synchronize_session": False}
            )
        if changed:
            # Another process may be at the same rows.
            on_postgresql = session.get_bind().dialect.name == "postgresql"
            new = postgresql.insert(table) if on_postgresql else sqlite.insert(table)
            columns = table.__table__.columns
            others = {one.name: new.excluded[one.name] for one in columns if not one.primary_key}
            session.execute(
                new.on_conflict_do_update(index_elements=["segment_id"], set_=others), changed
            )


def _changes(session: Session, first: str, last: str, double_share: float | None) -> list[Changes]:
    """What each of the two tables lacks."""
    # No filter by kind: SQLite would walk the index of kinds instead of the span.
    texts = (
        select(
            Transcript.segment_id,
            func.max(case((Transcript.kind == "pseudo", Transcript.id))).label("pseudo"),
            func.max(case((Transcript.kind == "review", Transcript.id))).label("typed"),
        )
        .filter(Transcript.segment_id.between(first, last))
        .group_by(Transcript.segment_id)
        .subquery()
    )
    doubts = (
        select(
            Transcript.segment_id,
            *(
                func.max(case((Score.name == name, Score.value))).label(name)
                for name in ("cer", "agreement")
            ),
        )
        .join(Score, Score.transcript_id == Transcript.id)
        .filter(Transcript.segment_id.between(first, last))
        .group_by(Transcript.segment_id)
        .subquery()
    )
    doubles: dict[str, bool] = {}
    if double_share is None:
        kept = select(Overview.segment_id, Overview.double)
        rows_here = kept.filter(Overview.segment_id.between(first, last))
        doubles = dict(session.execute(rows_here).tuples().all())
    opinions: dict[str, list[str | None]] = defaultdict(list)
    settled: set[str] = set()
    newest: dict[str, int] = {}
    for key, decision_id, settles, adjudicates, text in session.execute(
        select(Decision.segment_id, Decision.id, STANDS, Decision.adjudicates, Transcript.text)
        .outerjoin(Transcript, Transcript.id == Decision.transcript_id)
        .filter(
            STANDS | ((Decision.action == "skip") & Decision.undone_by.is_(None)),
            Decision.segment_id.between(first, last),
        )
        .order_by(STANDS, Decision.adjudicates, Decision.id)
    ):
        newest[key] = decision_id
        if settles:
            opinions[key].append(text)
        if adjudicates:
            settled.add(key)
    heard = aliased(Transcript)
    rows = session.execute(
        select(
            Segment.id,
            Segment.recording_id,
            Segment.end_ms - Segment.start_ms,
            Verdict.verdict,
            Score.value,
            doubts.c.cer,
            doubts.c.agreement,
            func.length(heard.text),
            texts.c.typed,
            Recording.held_out,
        )
        .join(Recording, Recording.id == Segment.recording_id)
        .outerjoin(Verdict, Verdict.segment_id == Segment.id)
        .outerjoin(texts, texts.c.segment_id == Segment.id)
        .outerjoin(heard, heard.id == texts.c.pseudo)
        .outerjoin(Score, and_(Score.transcript_id == texts.c.pseudo, Score.name == "avg_logprob"))
        .outerjoin(doubts, doubts.c.segment_id == Segment.id)
        .filter(Segment.id.between(first, last))
    )
    waiting, overview = [], []
    for (
        key,
        recording_id,
        length,
        verdict,
        logprob,
        cer,
        agreement,
        characters,
        typed,
        held_out,
    ) in rows:
        if double_share is None and key not in doubles:
            continue
        double = doubles[key] if double_share is None else wants_two(key, double_share)
        made = opinions[key]
        differs = max((rate for rate in (cer, agreement) if rate is not None), default=None)
        is_open = key not in settled and len(made) < 1 + double
        # The verdict after the first of two opinions rests on it: to the second it says nothing.
        among = "review" if is_open and made else verdict
        place = {
            "segment_id": key,
            "recording_id": recording_id,
            "worth": worth(among, length / 1000, logprob, differs, held_out=held_out),
        }
        overview.append(
            place
            | {
                "milliseconds": length,
                "verdict": verdict,
                "logprob": logprob,
                "cer": cer,
                "characters": characters,
                "double": double,
                "decision_id": newest.get(key),
            }
        )
        to_decide = among == "review" or characters is not None or typed is not None
        disputed = key not in settled and disagree(made)
        if disputed or (to_decide and is_open):
            waiting.append(place | {"disputed": disputed})
    found: list[Changes] = []
    tables: tuple[tuple[Table, list[dict[str, Any]]], ...]
    tables = ((Waiting, waiting), (Overview, overview))
    for table, wanted in tables:
        here = table.segment_id.between(first, last)
        there = session.execute(select(*table.__table__.columns).filter(here)).mappings()
        known = {row["segment_id"]: dict(row) for row in there}
        changed = [row for row in wanted if known.get(row["segment_id"]) != row]
        found.append((table, changed, known.keys() - {row["segment_id"] for row in wanted}))
    return found


def refresh_one(session: Session, segment_id: str, double_share: float = 0.0) -> None:
    """Write the worth of one segment, or take it out of the queue once it is settled."""
    refresh_span(session, segment_id, segment_id, double_share)


def keep(catalogue: Catalogue, double_share: float, stop: threading.Event) -> None:
    """Write the worth of everything again and again until `stop`, leaving reviewers the time."""
    while not stop.is_set():
        started = time.monotonic()
        for _ in refresh(catalogue, double_share):
            if stop.wait(PAUSES * (time.monotonic() - started)):
                return
            started = time.monotonic()
        stop.wait(IDLE_SECONDS)


def state(session: Session) -> tuple[int, int, int]:
    """Changes when there are new segments, transcripts of others than reviewers, or verdicts."""
    return (
        session.scalar(select(func.count()).select_from(Segment)) or 0,
        session.scalar(select(func.max(Transcript.id)).filter(Transcript.kind != "review")) or 0,
        session.scalar(select(func.count()).select_from(Verdict)) or 0,
    )


def has_overview(session: Session) -> bool:
    """Whether the overview has been written at all."""
    return session.scalar(select(Overview.segment_id).limit(1)) is not None
