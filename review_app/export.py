"""Decisions as a file: JSONL, a line for each, those that were taken back included.

A line tells all that another catalogue with the same recordings needs, and names decisions by their
client_id, which is the same everywhere. `review_app.importing` reads it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, NonNegativeInt, model_validator
from sqlalchemy import func, select
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
            ValueError: an id does not tell them.
        """
        found = []
        for key in self.after:
            start, _, end = key.rpartition("@")[2].partition("-")
            found.append((key, int(start), int(end)))
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
            if not self.cut.before or any(start >= end for _, start, end in spans):
                raise ValueError("cut: bounds that make no segment")
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
            texts = _texts(session, {_shown_on(row.decision) for row in rows})
        if not rows:
            return  # the rest went with its recordings
        for row in rows:
            yield _line(row, texts[_shown_on(row.decision)], newest).model_dump_json() + "\n"
        last = rows[-1].decision.id


class _Row(NamedTuple):
    decision: Decision
    segment: Segment
    after: str | None
    owner: str | None
    undone_by: str | None


def _read(session: Session, last: int, newest: int) -> list[_Row]:
    undoing, owner = aliased(Decision), aliased(Decision)
    first = (
        select(func.min(owner.id))
        .filter(owner.transcript_id == Decision.transcript_id)
        .correlate(Decision)
        .scalar_subquery()
    )
    named = aliased(Decision)
    rows = session.execute(
        select(Decision, Segment, Transcript.text, named.client_id, undoing.client_id)
        .join(Segment, Segment.id == Decision.segment_id)
        .outerjoin(Transcript, Transcript.id == Decision.transcript_id)
        .outerjoin(undoing, undoing.id == Decision.undone_by)
        .outerjoin(named, named.id == first)
        .filter(Decision.id > last, Decision.id <= newest)
        .order_by(Decision.id)
        .limit(BATCH_ROWS),
        execution_options={"superseded": True},
    )
    return [_Row(*row) for row in rows]


def _shown_on(decision: Decision) -> str:
    """The segment that the reviewer had before them."""
    return decision.cut["from"][0] if decision.cut else decision.segment_id


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


def _line(row: _Row, texts: Sequence[_Text], newest: int) -> Line:
    decision, segment = row.decision, row.segment
    # The same text may be there twice: it was rather another's than the one that came of it.
    same = [t for t in texts if t.text == decision.before and t.id != decision.transcript_id]
    shown = next((t for t in reversed(same) if t.kind != "review"), same[0] if same else None)
    undone = decision.undone_by is not None and decision.undone_by <= newest
    return Line(
        format=1,
        client_id=decision.client_id,
        segment_id=segment.id,
        recording_id=segment.recording_id,
        start_ms=segment.start_ms,
        end_ms=segment.end_ms,
        reviewer=decision.reviewer,
        action=decision.action,
        reason=decision.reason,
        before=decision.before,
        shown=Shown(kind=shown.kind, origin=shown.origin) if shown else None,
        after=row.after,
        repeats=row.owner if row.owner != decision.client_id else None,
        made_at=in_utc(decision.made_at),
        lead_ms=decision.lead_ms,
        cut=Cut.of(decision.cut) if decision.cut else None,
        adjudicates=decision.adjudicates,
        undone=undone,
        undone_by=row.undone_by if undone and decision.undone_by != decision.id else None,
    )
