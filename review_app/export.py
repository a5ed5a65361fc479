"""Decisions as a file: JSONL, a line for each, those that were taken back included.

A line tells all that another catalogue with the same recordings needs, and names decisions by their
client_id, which is the same everywhere. `review_app.importing` reads it.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, model_validator
from sqlalchemy import Row, Select, func, select
from sqlalchemy.orm import Session, aliased

from corpus.catalogue import Catalogue, Decision, Segment, Transcript, in_utc, recording_of
from corpus.text import clean_transcript
from review_app.decisions import ACTIONS, REASONS

BATCH_ROWS = 500
"""Decisions that are read in one transaction: reviewers at work do not wait for a slow reader."""


class Shown(BaseModel):
    """Where the text came from that the reviewer was shown."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    origin: str


class Cut(BaseModel):
    """Ids of segments before and after a change of bounds, and what was typed for the new ones."""

    model_config = ConfigDict(extra="forbid")

    before: list[str]
    after: list[str]
    texts: list[str] = []

    @classmethod
    def of(cls, stored: dict[str, Any]) -> "Cut":
        """That of a decision in the catalogue."""
        return cls(before=stored["from"], after=stored["to"], texts=stored.get("texts", []))

    def as_stored(self) -> dict[str, Any]:
        """As a decision in the catalogue has it."""
        texts = {"texts": self.texts} if self.texts else {}
        return {"from": self.before, "to": self.after, **texts}

    @property
    def spans(self) -> list[tuple[str, int, int]]:
        """Id, start and end (ms) of each new segment.

        Raises:
            ValueError: an id does not tell them, or they make no segment.
        """
        found = []
        for key in self.after:
            bounds = re.fullmatch(r"(\d{1,9})-(\d{1,9})", key.rpartition("@")[2])
            if bounds is None or int(bounds[1]) >= int(bounds[2]):
                raise ValueError("cut: bounds that make no segment")
            found.append((key, int(bounds[1]), int(bounds[2])))
        return found


class Line(BaseModel):
    """A decision in a file. Its own segment is the one on which it is, with its bounds in ms."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    client_id: str
    segment_id: str
    recording_id: str
    start_ms: NonNegativeInt
    end_ms: NonNegativeInt
    reviewer: str
    action: str
    reason: str | None
    before: str | None
    shown: Shown | None
    """As far as it can be told: by the text."""
    after: str | None
    repeats: str | None
    """The decision whose text it has made to hold again."""
    made_at: AwareDatetime
    lead_ms: int | None
    cut: Cut | None
    adjudicates: bool
    undone: bool
    undone_by: str | None
    """The decision that took it back, where that is known."""

    @model_validator(mode="after")
    def _is_whole(self) -> "Line":
        if self.action not in (*ACTIONS, "split", "merge", "undo"):
            raise ValueError(f"unknown action {self.action}")
        if self.after is not None and not clean_transcript(self.after):
            raise ValueError("after: there is no text")
        if (self.after is not None) != (self.action in ("accept", "correct")):
            raise ValueError(f"{self.action} and the text do not go together")
        if self.action == "reject" and self.reason not in REASONS:
            raise ValueError(f"reason: one of {', '.join(REASONS)}")
        if (self.cut is None) and self.action in ("split", "merge"):
            raise ValueError(f"{self.action} without cut")
        if self.cut is not None:
            spans = self.cut.spans
            if any(recording_of(key) != self.recording_id for key, _, _ in spans):
                raise ValueError("cut: segments of another recording")
            if not self.cut.before or not spans:
                raise ValueError("cut: from nothing, or into nothing")
        return self


def export(catalogue: Catalogue) -> Iterator[str]:
    """All decisions as lines of a file, in the order in which the catalogue got them.

    What is decided while it is read is not among them, nor is it told as taking anything back.
    """
    with catalogue.session() as session:
        newest = session.scalar(select(func.max(Decision.id))) or 0
    last = 0
    while last < newest:
        with catalogue.session() as session:
            rows = _read(session, last, newest)
            texts = _texts(session, {_shown_on(row) for row in rows})
        if not rows:
            return  # the rest went with its recordings
        for row in rows:
            yield _line(row, texts[_shown_on(row)], newest).model_dump_json() + "\n"
        last = rows[-1].id


def _read(session: Session, last: int, newest: int) -> Sequence[Row[Any]]:
    """Decisions with their segment, as plain rows: objects would take twice as long."""
    same, owner, undoing = aliased(Decision), aliased(Decision), aliased(Decision)
    first = select(func.min(same.id)).filter(same.transcript_id == Decision.transcript_id)
    columns = [column for column in Decision.__table__.columns if column.name != "segment_id"]
    query: Select[Any] = (
        select(
            *columns,
            Segment.id.label("segment_id"),
            Segment.recording_id,
            Segment.start_ms,
            Segment.end_ms,
            Transcript.text.label("after"),
            owner.client_id.label("owner"),
            undoing.client_id.label("undoing"),
        )
        .join(Segment, Segment.id == Decision.segment_id)
        .outerjoin(Transcript, Transcript.id == Decision.transcript_id)
        .outerjoin(undoing, undoing.id == Decision.undone_by)
        .outerjoin(owner, owner.id == first.correlate(Decision).scalar_subquery())
        .filter(Decision.id > last, Decision.id <= newest)
        .order_by(Decision.id)
        .limit(BATCH_ROWS)
    )
    return session.execute(query, execution_options={"superseded": True}).all()


def _shown_on(row: Row[Any]) -> str:
    """The segment that the reviewer had before them."""
    key: str = row.cut["from"][0] if row.cut else row.segment_id
    return key


class _Text(NamedTuple):
    id: int
    kind: str
    origin: str
    text: str


def _texts(session: Session, segments: Collection[str]) -> dict[str, list[_Text]]:
    found: dict[str, list[_Text]] = defaultdict(list)
    for segment_id, key, kind, origin, text in session.execute(
        select(
            Transcript.segment_id,
            Transcript.id,
            Transcript.kind,
            Transcript.origin,
            Transcript.text,
        )
        .filter(Transcript.segment_id.in_(segments))
        .order_by(Transcript.id)
    ):
        found[segment_id].append(_Text(key, kind, origin, text))
    return found


def _line(row: Row[Any], texts: Sequence[_Text], newest: int) -> Line:
    # The same text may be there twice: it was rather another's than the one that came of it.
    same = [t for t in texts if t.text == row.before and t.id != row.transcript_id]
    shown = next((t for t in reversed(same) if t.kind != "review"), same[0] if same else None)
    undone = row.undone_by is not None and row.undone_by <= newest
    return Line.model_construct(  # what is stored has been looked at
        format=1,
        client_id=row.client_id,
        segment_id=row.segment_id,
        recording_id=row.recording_id,
        start_ms=row.start_ms,
        end_ms=row.end_ms,
        reviewer=row.reviewer,
        action=row.action,
        reason=row.reason,
        before=row.before,
        shown=Shown(kind=shown.kind, origin=shown.origin) if shown else None,
        after=row.after,
        repeats=row.owner if row.owner != row.client_id else None,
        made_at=in_utc(row.made_at),
        lead_ms=row.lead_ms,
        cut=Cut.of(row.cut) if row.cut else None,
        adjudicates=row.adjudicates,
        undone=undone,
        undone_by=row.undoing if undone and row.undone_by != row.id else None,
    )
