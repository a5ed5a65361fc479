"""The tables of the catalogue.

Ids come from content, so that a second run of a stage finds its own work: ``youtube:ID``,
``file:SHA256``, ``recording@start_ms-end_ms``. Transcripts and decisions are added, never
overwritten; scores of a label are computed anew when another model is compared. The SQL stays
within what SQLite and PostgreSQL share.
"""

import secrets
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, Text, UniqueConstraint, false
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


def now() -> datetime:
    """The present, in UTC."""
    return datetime.now(UTC)


def in_utc(time: datetime) -> datetime:
    """A time of the catalogue; SQLite gives it back without its zone, PostgreSQL in another."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def new_client_id() -> str:
    """A name that no other decision has, in any catalogue."""
    return secrets.token_hex(16)


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain attribute
        str: Text,
        dict[str, Any]: JSON,
        list[str]: JSON,
        datetime: DateTime(timezone=True),
    }


class Recording(Base):
    """One media file with its provenance."""

    __tablename__ = "recordings"

    id: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(index=True)
    """Where it came from: ``youtube``, ``files``, ``common-voice/RELEASE``."""
    url: Mapped[str | None]
    title: Mapped[str | None]
    channel_id: Mapped[str | None]
    channel: Mapped[str | None]
    uploader: Mapped[str | None]
    speaker: Mapped[str | None]
    language: Mapped[str]
    licence_raw: Mapped[str | None]
    """As written at the source."""
    licence: Mapped[str]
    """SPDX identifier, or ``own``."""
    licence_evidence: Mapped[dict[str, Any]]
    attribution: Mapped[str]
    redistributable: Mapped[bool]
    media_path: Mapped[str]
    """Relative to the workspace, or absolute for a release that stays where it is."""
    sha256: Mapped[str | None]
    """Of the media file; empty for a release's clips, which are not ours."""
    duration_ms: Mapped[int]
    subtitle_path: Mapped[str | None]
    subtitle_note: Mapped[str | None]
    """Why there are no usable subtitles, or what was noticed about them."""
    timing: Mapped[dict[str, Any] | None]
    """How the subtitle track lies against the speech, once a model has measured it."""
    split: Mapped[str | None]
    """The source's own split: train, dev or test."""
    held_out: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether a dataset has put it into dev or test, where people's word is needed first."""
    segmented_with: Mapped[str | None]
    """Name of the segmenter; empty until `corpus segment` has done it."""
    added_at: Mapped[datetime] = mapped_column(default=now)

    cues: Mapped[list["Cue"]] = relationship(
        back_populates="recording", cascade="all, delete-orphan", order_by="Cue.position"
    )
    segments: Mapped[list["Segment"]] = relationship(
        back_populates="recording", cascade="all, delete-orphan", order_by="Segment.start_ms"
    )

    @property
    def group(self) -> str:
        """Who must not be on both sides of a split: the speaker, else the channel, else itself."""
        return self.speaker or self.channel_id or self.id


class Cue(Base):
    """What is said in one subtitle event of a recording."""

    __tablename__ = "cues"

    recording_id: Mapped[str] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    start_ms: Mapped[int]
    end_ms: Mapped[int]
    text: Mapped[str]
    after_break: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether something that is not speech was taken out just before: no segment goes across."""
    is_dialogue: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether more than one person speaks in it."""

    recording: Mapped[Recording] = relationship(back_populates="cues")


class Segment(Base):
    """A stretch of a recording of at most 30 s: what is labelled, reviewed and trained on."""

    __tablename__ = "segments"

    id: Mapped[str] = mapped_column(primary_key=True)
    recording_id: Mapped[str] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), index=True
    )
    start_ms: Mapped[int]
    end_ms: Mapped[int]
    superseded: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether a person has cut it anew: others stand in its place, and no query finds it."""

    recording: Mapped[Recording] = relationship(back_populates="segments")
    transcripts: Mapped[list["Transcript"]] = relationship(
        back_populates="segment", cascade="all, delete-orphan", order_by="Transcript.id"
    )
    decisions: Mapped[list["Decision"]] = relationship(
        cascade="all, delete-orphan", order_by="Decision.id"
    )
    verdict: Mapped["Verdict | None"] = relationship(cascade="all, delete-orphan")


def segment_id(recording_id: str, start_ms: int, end_ms: int) -> str:
    """The id of a segment: its recording and its span in milliseconds."""
    return f"{recording_id}@{start_ms}-{end_ms}"


def recording_of(segment_id: str) -> str:
    """The id of the recording in the id of a segment."""
    return segment_id.rpartition("@")[0]


class Transcript(Base):
    """One text for a segment and where it came from."""

    __tablename__ = "transcripts"
    __table_args__ = (Index("transcripts_by_origin", "kind", "origin"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), index=True
    )
    kind: Mapped[str]
    """``subtitle``, ``pseudo``, ``review`` or ``release``."""
    origin: Mapped[str]
    """The subtitle track, the model with its hash, the reviewer, or the release."""
    text: Mapped[str]
    words: Mapped[list[list[Any]] | None] = mapped_column(JSON)
    """[start_ms, end_ms, word, probability] of each word, in the recording's time."""
    made_at: Mapped[datetime] = mapped_column(default=now)

    segment: Mapped[Segment] = relationship(back_populates="transcripts")
    scores: Mapped[list["Score"]] = relationship(
        cascade="all, delete-orphan", order_by="Score.name"
    )


class Score(Base):
    """A number about a transcript."""

    __tablename__ = "scores"

    transcript_id: Mapped[int] = mapped_column(
        ForeignKey("transcripts.id", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class Decision(Base):
    """A reviewer's accept, correct, reject or skip."""

    __tablename__ = "decisions"

    id: Mapped[int] = mapped_column(primary_key=True)
    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), index=True
    )
    reviewer: Mapped[str]
    action: Mapped[str]
    """``accept``, ``correct``, ``reject`` or ``skip``; ``split``, ``merge`` or ``undo``."""
    reason: Mapped[str | None]
    before: Mapped[str | None]
    """The text that the reviewer was shown."""
    transcript_id: Mapped[int | None] = mapped_column(
        ForeignKey("transcripts.id", ondelete="CASCADE"), index=True
    )
    """The review transcript of an accept or a correct."""
    client_id: Mapped[str] = mapped_column(unique=True, default=new_client_id)
    """Made by the browser, so that a repeated request does not decide twice. Other catalogues, to
    which decisions are taken, know the decision by it."""
    undone_by: Mapped[int | None]
    """The later decision that took this one back; empty while it stands."""
    cut: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Of one that changed bounds: ids of the segments before (``from``) and after (``to``), and
    the ``texts`` that were typed for these."""
    adjudicates: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether it settles what two reviewers disagreed on."""
    lead_ms: Mapped[int | None]
    """How long the reviewer took, as the browser measured it."""
    made_at: Mapped[datetime] = mapped_column(default=now)


FINAL_ACTIONS = ("accept", "correct", "reject")
"""The actions that settle a segment."""

STANDS = Decision.action.in_(FINAL_ACTIONS) & Decision.undone_by.is_(None)
"""SQL: a decision that settles its segment and has not been taken back."""


class Waiting(Base):
    """A segment in the queue of the reviewers, with how much a look at it is worth."""

    __tablename__ = "waiting"
    __table_args__ = (
        Index("waiting_by_worth", "disputed", "worth", "segment_id"),
        Index("waiting_of_recording", "recording_id", "worth"),
    )

    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True
    )
    recording_id: Mapped[str]
    worth: Mapped[float]
    disputed: Mapped[bool] = mapped_column(default=False, server_default=false())
    """Whether it waits for an adjudicator, as people have decided on it and differ."""


class Overview(Base):
    """A segment in a list: what stages and reviewers have made of it, in one narrow row.

    Worked out from other tables, like `Waiting`, so that a list of everything is one walk through
    one table however it is filtered and sorted.
    """

    __tablename__ = "overview"

    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True
    )
    recording_id: Mapped[str]
    milliseconds: Mapped[int]
    verdict: Mapped[str | None]
    worth: Mapped[float]
    logprob: Mapped[float | None]
    """Mean log-probability of the newest pseudo-label."""
    cer: Mapped[float | None]
    """Between a label and what a model heard."""
    characters: Mapped[int | None]
    """Of the newest pseudo-label."""
    double: Mapped[bool]
    """Whether two people are to decide it."""
    decision_id: Mapped[int | None]
    """The newest decision that settles it; where there is none, the newest skip."""


class Lease(Base):
    """Who has a segment before them now, and until when nobody else gets it."""

    __tablename__ = "leases"

    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True
    )
    reviewer: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[str] = mapped_column(unique=True)
    expires: Mapped[float]
    """Seconds since 1970."""


class User(Base):
    """Somebody who may use the review app."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    """``reviewer``, ``adjudicator`` or ``admin``."""
    password: Mapped[str | None]
    """Argon2id hash; empty for somebody who signs in through a proxy only."""
    disabled: Mapped[bool] = mapped_column(default=False, server_default=false())
    added_at: Mapped[datetime] = mapped_column(default=now)


class Verdict(Base):
    """Keep, drop or review for a segment, with the reasons."""

    __tablename__ = "verdicts"

    segment_id: Mapped[str] = mapped_column(
        ForeignKey("segments.id", ondelete="CASCADE"), primary_key=True
    )
    verdict: Mapped[str] = mapped_column(index=True)
    reasons: Mapped[list[str]]
    transcript_id: Mapped[int | None] = mapped_column(
        ForeignKey("transcripts.id", ondelete="SET NULL"), index=True
    )
    """The transcript that would be trained on."""
    thresholds: Mapped[str]
    """Preset and hash of the thresholds that decided."""


class Model(Base):
    """A model that has labelled segments: the chain of models behind a transcript."""

    __tablename__ = "models"

    origin: Mapped[str] = mapped_column(primary_key=True)
    """As transcripts name it: name and hash."""
    sha256: Mapped[str | None]
    """Of its weights."""
    lineage: Mapped[dict[str, Any]]
    """The base model, the datasets and the run that it was made from, where it tells."""
    used_at: Mapped[datetime] = mapped_column(default=now)


class Failure(Base):
    """One item that a stage could not do, by class; transient ones are tried again."""

    __tablename__ = "failures"
    __table_args__ = (UniqueConstraint("stage", "item"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    stage: Mapped[str]
    item: Mapped[str]
    kind: Mapped[str]
    """Class: ``not_cc``, ``gone``, ``private``, ``rate_limited``, ``bad_media`` and so on."""
    message: Mapped[str]
    url: Mapped[str | None]
    transient: Mapped[bool]
    attempts: Mapped[int] = mapped_column(default=1)
    failed_at: Mapped[datetime] = mapped_column(default=now)


CHANNEL_PREFIX = "channel:"
"""Begins the tombstone of a whole channel, of which nothing more is taken."""


class Tombstone(Base):
    """What was taken down and is never to be taken again."""

    __tablename__ = "tombstones"

    item: Mapped[str] = mapped_column(primary_key=True)
    """A recording's id, or ``channel:ID``."""
    url: Mapped[str | None]
    channel_id: Mapped[str | None]
    files: Mapped[list[str]]
    """What is still to be deleted, relative to the workspace; empty once that is done."""
    removed_at: Mapped[datetime] = mapped_column(default=now)
