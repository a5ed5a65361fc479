"""The HTTP interface that the review screen and scripts use.

    GET  /api/v1/session            who reviews, and the reasons of a reject
    GET  /api/v1/next?exclude=ID    the next segment, apart from those held already
    POST /api/v1/decide             store a decision; answers with the next segment too
    GET  /api/v1/peaks/ID           the waveform of a segment
    GET  /media/ID                  the sound of a segment (FLAC, 16 kHz mono)

Requests to /api need the header X-Requested-With. IDs are looked up in the catalogue; no path ever
comes from the browser. A decision about a segment that somebody has decided meanwhile answers 409,
one about a segment that is gone 404, one that makes no sense 422.
"""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from corpus.audio import MediaError
from corpus.catalogue import Catalogue, Segment
from corpus.errors import UserError
from corpus.workspace import Workspace
from review_app import clip, queue
from review_app.guard import require_own_page

MAX_TEXT_CHARACTERS = 10_000
"""Far more than anybody says in 30 s."""


class SessionInfo(BaseModel):
    """What the review screen has to know once."""

    reviewer: str
    store: str
    """Names this workspace and reviewer in the browser's storage."""
    reasons: dict[str, str]


class OtherTranscript(BaseModel):
    """What another origin has for the same segment."""

    kind: str
    origin: str
    text: str


class Item(BaseModel):
    """A segment to review."""

    segment_id: str
    transcript_id: int | None
    text: str
    kind: str | None
    language: str
    seconds: float
    title: str
    url: str | None
    licence: str
    reasons: list[str]
    others: list[OtherTranscript]
    audio: str
    peaks: str


class Next(BaseModel):
    """The next segment, if any, and how many nobody has decided yet."""

    item: Item | None
    waiting: int


class DecisionRequest(BaseModel):
    """A decision about the transcript that was shown."""

    segment_id: str
    transcript_id: int | None
    action: Literal["accept", "correct", "reject", "skip"]
    text: str | None = Field(default=None, max_length=MAX_TEXT_CHARACTERS)
    reason: str | None = None
    client_id: str = Field(min_length=8, max_length=64)
    """Made by the client; sending it again does not decide twice."""
    exclude: list[str] = Field(default_factory=list, max_length=100)
    """Segments that the client holds already."""


class DecisionReply(Next):
    """What was stored, and what comes next."""

    decision_id: int
    action: str
    transcript_id: int | None


def add_routes(app: FastAPI, workspace: Workspace, catalogue: Catalogue, reviewer: str) -> None:
    """Add the interface to `app`; every decision is in the name of `reviewer`."""
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(require_own_page)])

    @api.get("/session")
    def session_info() -> SessionInfo:
        place = f"{workspace.catalogue_url}\n{reviewer}"
        store = hashlib.sha256(place.encode()).hexdigest()[:16]
        return SessionInfo(reviewer=reviewer, store=store, reasons=queue.REASONS)

    @api.get("/next")
    def next_item(exclude: Annotated[list[str], Query(max_length=100)] = []) -> Next:  # noqa: B006
        with catalogue.session() as session:
            return _next(session, reviewer, exclude)

    @api.post("/decide")
    def decide(request: DecisionRequest) -> DecisionReply:
        with catalogue.session() as session:
            decision = queue.decide(
                session, reviewer=reviewer, **request.model_dump(exclude={"exclude"})
            )
            following = _next(session, reviewer, request.exclude)
            return DecisionReply(
                decision_id=decision.id,
                action=decision.action,
                transcript_id=decision.transcript_id,
                item=following.item,
                waiting=following.waiting,
            )

    @api.get("/peaks/{segment_id:path}")
    def peaks(segment_id: str) -> list[int]:
        return clip.cut(*span(segment_id)).peaks

    @app.get("/media/{segment_id:path}")
    def media(segment_id: str, request: Request) -> Response:
        return byte_range(clip.cut(*span(segment_id)).flac, request.headers.get("range"))

    def span(segment_id: str) -> tuple[Path, int, int]:
        with catalogue.session() as session:
            segment = session.get(Segment, segment_id)
            if segment is None:
                raise queue.UnknownSegment(f"no segment {segment_id}")
            return (
                workspace.path(segment.recording.media_path),
                segment.start_ms,
                segment.end_ms,
            )

    @app.exception_handler(UserError)
    def explain(_: Request, error: UserError) -> JSONResponse:
        status = {queue.UnknownSegment: 404, MediaError: 404, queue.Conflict: 409}
        return JSONResponse({"detail": str(error)}, status.get(type(error), 422))

    app.include_router(api)


def _next(session: Session, reviewer: str, exclude: list[str]) -> Next:
    segment = queue.next_segment(session, reviewer, exclude)
    return Next(
        item=_item(segment) if segment is not None else None,
        waiting=queue.count_waiting(session),
    )


def _item(segment: Segment) -> Item:
    recording, shown = segment.recording, queue.shown_transcript(segment)
    address = quote(segment.id, safe="")
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
        reasons=segment.verdict.reasons if segment.verdict else [],
        others=[
            OtherTranscript(kind=other.kind, origin=other.origin, text=other.text)
            for other in segment.transcripts
            if shown is not None and other.text != shown.text
        ],
        audio=f"/media/{address}",
        peaks=f"/api/v1/peaks/{address}",
    )


def byte_range(content: bytes, requested: str | None) -> Response:
    """A FLAC response with the whole content, or with the one range asked for (RFC 9110, 14.2).

    Several ranges at once, which players do not ask for, get the whole content.
    """
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600"}
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", (requested or "").strip())
    if match is None or not any(match.groups()):
        return Response(content, media_type="audio/flac", headers=headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    end = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= end:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return Response(status_code=416, headers=headers)
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
    return Response(content[start:end], 206, headers, media_type="audio/flac")
