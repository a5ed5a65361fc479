"""Everything that the catalogue knows of one recording or segment: what `corpus show` tells."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, inspect, or_, select
from sqlalchemy.orm import Session, selectinload

from corpus import console
from corpus.catalogue import (
    CHANNEL_PREFIX,
    Catalogue,
    Cue,
    Failure,
    Model,
    Recording,
    Segment,
    Tombstone,
    Transcript,
)
from corpus.errors import UserError
from corpus.status import SUBTITLES
from corpus.text import clean_transcript


def show(catalogue: Catalogue, id: str) -> dict[str, Any]:
    """What is known under an id, as one JSON document; times as in the catalogue, milliseconds.

    `segments` are those of a recording, or the one that was asked for. What was not taken or was
    removed has no recording, but `failures` and `tombstones` that say why.

    Raises:
        UserError: the catalogue knows nothing of it.
    """
    with catalogue.session() as session:
        segment = session.get(Segment, id)
        recording = segment.recording if segment else session.get(Recording, id)
        segments = _segments(session, [segment.id] if segment else None, recording)
        failures = _failures(session, id, recording)
        tombstones = _tombstones(session, id, recording)
        if recording is None and not failures and not tombstones:
            raise UserError(
                f"nothing is known of {id}; ids look like youtube:dQw4w9WgXcQ, and "
                "`corpus status --json` lists what was not taken"
            )
        origins = {made.origin for each in segments for made in each.transcripts}
        return {
            "id": id,
            "recording": _recording(session, recording) if recording else None,
            "segments": [_segment(each) for each in segments],
            "models": [
                _columns(model)
                for model in session.scalars(select(Model).order_by(Model.origin))
                if model.origin in origins
            ],
            "failures": [_columns(failure, "id") for failure in failures],
            "tombstones": [_columns(tombstone) for tombstone in tombstones],
        }


def _columns(row: Any, *left_out: str) -> dict[str, Any]:
    """A row of any table as JSON has it, so that what a later version adds is shown too."""
    names = (column.key for column in inspect(type(row)).column_attrs if column.key not in left_out)
    values = {name: getattr(row, name) for name in names}
    return {
        # SQLite forgets the time zone, which is UTC.
        name: value.replace(tzinfo=value.tzinfo or UTC).isoformat()
        if isinstance(value, datetime)
        else value
        for name, value in values.items()
    }


def _recording(session: Session, recording: Recording) -> dict[str, Any]:
    of_it = Recording.id == recording.id
    cues = select(func.count()).select_from(Cue).filter(Cue.recording_id == recording.id)
    return {
        **_columns(recording),
        "subtitles": session.scalar(select(SUBTITLES).filter(of_it)),
        "cues": session.scalar(cues),
    }


def _segments(
    session: Session, ids: list[str] | None, recording: Recording | None
) -> list[Segment]:
    if recording is None:
        return []
    wanted = Segment.recording_id == recording.id if ids is None else Segment.id.in_(ids)
    return list(
        session.scalars(
            select(Segment)
            .filter(wanted)
            .order_by(Segment.start_ms)
            .options(
                selectinload(Segment.transcripts).selectinload(Transcript.scores),
                selectinload(Segment.decisions),
                selectinload(Segment.verdict),
            )
        )
    )


def _segment(segment: Segment) -> dict[str, Any]:
    return {
        **_columns(segment, "recording_id"),
        "transcripts": [
            {
                **_columns(made, "segment_id"),
                "scores": {score.name: score.value for score in made.scores},
            }
            for made in segment.transcripts
        ],
        "decisions": [_columns(made, "id", "segment_id") for made in segment.decisions],
        "verdict": _columns(segment.verdict, "segment_id") if segment.verdict else None,
    }


def _failures(session: Session, id: str, recording: Recording | None) -> list[Failure]:
    """What failed on it; for a recording on its segments too, for a segment on its recording."""
    meant = [Failure.item == id]
    if recording is not None:
        meant.append(Failure.item == recording.id)
        if recording.id == id:
            meant.append(Failure.item.startswith(f"{id}@", autoescape=True))
    order = (Failure.stage, Failure.item)
    return list(session.scalars(select(Failure).filter(or_(*meant)).order_by(*order)))


def _tombstones(session: Session, id: str, recording: Recording | None) -> list[Tombstone]:
    items = {id}
    if recording is not None and recording.channel_id:
        items.add(CHANNEL_PREFIX + recording.channel_id)
    query = select(Tombstone).filter(Tombstone.item.in_(items)).order_by(Tombstone.item)
    return list(session.scalars(query))


def print_shown(found: dict[str, Any]) -> None:
    """The same as tables."""
    if found["recording"]:
        console.print_table(
            found["recording"]["id"], ["field", "value"], _fields(found["recording"])
        )
    if found["segments"]:
        console.print_table(
            "Segments",
            ["segment", "verdict", "why", "transcripts and decisions"],
            [_segment_row(each) for each in found["segments"]],
        )
    for title, rows in (
        ("Models", found["models"]),
        ("Failures", found["failures"]),
        ("Removed", found["tombstones"]),
    ):
        for row in rows:
            console.print_table(title, ["field", "value"], _fields(row))


def _fields(row: dict[str, Any]) -> list[list[str]]:
    """A line for each value that there is; what lies inside another is named by both."""
    lines = []
    for name, value in row.items():
        if isinstance(value, dict):
            lines += _fields({f"{name}: {key}": inner for key, inner in value.items()})
        elif value not in (None, []):
            lines.append([name, clean_transcript(str(value))])
    return lines


def _segment_row(segment: dict[str, Any]) -> list[str]:
    span = f"{segment['start_ms'] / 1000:.2f} to {segment['end_ms'] / 1000:.2f} s"
    verdict = segment["verdict"]
    made = [*map(_told, segment["transcripts"]), *map(_decided, segment["decisions"])]
    return [
        f"{segment['id']}\n{span}",
        f"{verdict['verdict']}\n{verdict['thresholds']}" if verdict else "",
        clean_transcript("; ".join(verdict["reasons"])) if verdict else "not judged yet",
        "\n".join(made),
    ]


def _told(transcript: dict[str, Any]) -> str:
    scores = ", ".join(f"{name} {value:.2f}" for name, value in transcript["scores"].items())
    origin = f"{transcript['kind']} of {transcript['origin']}"
    return clean_transcript(f"{origin}{f' ({scores})' if scores else ''}: {transcript['text']}")


def _decided(decision: dict[str, Any]) -> str:
    reason = f": {decision['reason']}" if decision["reason"] else ""
    return f"{decision['action']} by {decision['reviewer']}{reason} ({decision['made_at']})"
