"""The HTTP interface that the review screen and scripts use.

    GET  /api/v1/session            who reviews, and the reasons of a reject
    GET  /api/v1/next?exclude=ID    the next segment, apart from those held already; filters:
                                    source, channel, speaker, language, verdict, q, mine,
                                    conflicts (for adjudicators)
    GET  /api/v1/segments/ID        one segment, for a link to it; /history what was decided on it
    POST /api/v1/segments/ID/revert make an earlier decision hold again
    POST /api/v1/decide             store a decision; answers with the next segment too
    POST /api/v1/undo               take back one's own newest decision; answers with its segment
    GET  /api/v1/browse             all segments, 50 a page; the same filters, and: state, reviewer,
                                    sort, descending, page; /browse/choices what to filter by
    GET  /api/v1/statistics         how the review goes; a reviewer sees the own pace and the totals
    POST /api/v1/split, /merge      cut a segment in two, or make one of it and the next
    GET  /api/v1/conflicts          what reviewers disagree on, for adjudicators
    GET  /api/v1/export             all decisions as JSONL, for admins
    GET  /api/v1/users              the accounts, for admins
    POST /api/v1/renew, /release    keep, or give back, segments that one has before oneself
    GET  /api/v1/peaks/ID           the waveform of a segment
    GET  /media/ID                  the sound of a segment (FLAC, 16 kHz mono); with ?context=1
                                    also what lies around it

Requests to /api need the header X-Requested-With. IDs are looked up in the catalogue; no path ever
comes from the browser. A decision about a segment that somebody has decided meanwhile answers 409
with both texts (``yours``, ``theirs``), one about a segment that is gone 404, one that makes no
sense 422.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus.audio import MediaError
from corpus.catalogue import Catalogue, Decision, Segment
from corpus.errors import UserError
from corpus.verdict import FLAGS, GROUNDS
from corpus.workspace import Workspace
from review_app import (
    accounts,
    browse,
    clip,
    decisions,
    export,
    leases,
    order,
    queue,
    recut,
    standing,
    statistics,
)
from review_app.accounts import Person, Role
from review_app.guard import require_own_page

MAX_TEXT_CHARACTERS = 10_000
"""Far more than anybody says in 30 s."""

REVIEWER_HEADER = "X-Reviewer"

CONTEXT_MS = 2000
"""How much sound around a segment there is at most."""


class SessionInfo(BaseModel):
    """What the review screen has to know once."""

    reviewer: str
    store: str
    """Names this workspace and reviewer in the browser's storage."""
    reasons: dict[str, str]
    role: Role
    accounts: bool
    """Whether people sign in; without, whoever sits at this machine may do everything."""


class OtherTranscript(BaseModel):
    """What another origin has for the same segment."""

    kind: str
    origin: str
    text: str


class Dispute(BaseModel):
    """A segment that people have decided differently, and what each of them has decided."""

    segment_id: str
    title: str
    language: str
    seconds: float
    opinions: list[dict[str, Any]]
    """Rows as those of a history."""


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
    version: int
    """Goes back with the decision: by it an outdated one is told."""
    lease: str | None
    lease_seconds: int
    held_by: str | None
    """Who else has the segment before them; then there is no lease."""
    start_ms: int
    end_ms: int
    context_before_ms: int
    context_after_ms: int
    words: list[list[Any]]
    """[start, end, word, probability], in seconds from the start of the segment."""
    before: str | None
    """What is said just before it."""
    after: str | None
    scores: dict[str, float]
    reasons_in_words: list[str]
    history: list[dict[str, Any]]
    double: bool
    """Whether two people are to decide it."""
    opinions: list[dict[str, Any]]
    """Where people disagree on it and the reader may settle that: their decisions."""


class Next(BaseModel):
    """The next segment, if any, and how many nobody has decided yet."""

    item: Item | None
    waiting: int
    conflicts: int
    """How many wait for an adjudicator; 0 for those who are none."""


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
    filters: queue.Filters = queue.Filters()
    """Which segment is to come next."""
    version: int | None = None
    """Of the item that was shown."""
    lead_ms: int | None = Field(default=None, ge=0)
    start_ms: int | None = None
    end_ms: int | None = None
    """Bounds in the recording, where the reviewer has moved them."""


class DecisionReply(Next):
    """What was stored, and what comes next."""

    decision_id: int
    action: str
    transcript_id: int | None


class ItemReply(BaseModel):
    """One segment."""

    item: Item


class ItemsReply(BaseModel):
    """What came of a split or a merge."""

    items: list[Item]


class MergeRequest(BaseModel):
    """Make one of a segment and the next one."""

    segment_id: str
    version: int | None = None
    client_id: str = Field(min_length=8, max_length=64)
    """Made by the client; sending it again does not cut twice."""


class SplitRequest(MergeRequest):
    """Cut a segment in two at a time of its recording."""

    at_ms: int
    texts: list[Annotated[str, Field(max_length=MAX_TEXT_CHARACTERS)]]


class Made(BaseModel):
    """The decision that a list shows of a segment."""

    action: str
    reviewer: str
    reason: str | None
    made_at: str


class Row(BaseModel):
    """A segment in a list."""

    segment_id: str
    title: str
    text: str
    language: str
    seconds: float
    verdict: str | None
    logprob: float | None
    cer: float | None
    decision: Made | None
    audio: str


class Rows(BaseModel):
    """One page of a list, and how many segments are on all of its pages."""

    rows: list[Row]
    total: int
    page_rows: int


class RevertRequest(BaseModel):
    """Which decision of a segment is to hold again."""

    decision_id: int


class Leases(BaseModel):
    """Tokens of leases."""

    leases: list[str] = Field(max_length=100)


def signed_in(request: Request) -> Person:
    """A dependency: who makes the request.

    A page says in whose name it is open: somebody else may have signed in in another tab since,
    and what the first one typed must not be sent as theirs.
    """
    person: Person = request.state.person
    if unquote(request.headers.get(REVIEWER_HEADER, "")) not in ("", person.name):
        raise HTTPException(401, f"{person.name} has signed in here meanwhile; reload the page")
    return person


Who = Annotated[Person, Depends(signed_in)]


def needs(role: Role) -> Any:
    """A dependency that refuses people who may not do what `role` may."""

    def check(person: Who) -> None:
        if not person.may(role):
            raise HTTPException(403, f"only for the role {role}; yours is {person.role}")

    return Depends(check)


def add_routes(
    app: FastAPI,
    workspace: Workspace,
    catalogue: Catalogue,
    double_share: float = 0.0,
    *,
    by_password: bool = False,
) -> None:
    """Add the interface to `app`; `request.state.person` tells who makes a request.

    `by_password` tells whether people sign in.
    """
    known: list[tuple[int, int, int]] = []
    reader = statistics.Reader(catalogue)
    api = APIRouter(prefix="/api/v1", dependencies=[Depends(require_own_page)])

    @api.get("/session")
    def session_info(person: Who) -> SessionInfo:
        place = f"{workspace.catalogue_url}\n{person.name}"
        store = hashlib.sha256(place.encode()).hexdigest()[:16]
        return SessionInfo(
            reviewer=person.name,
            store=store,
            reasons=decisions.REASONS,
            role=person.role,
            accounts=by_password,
        )

    @api.get("/next")
    def next_item(
        person: Who,
        filters: Annotated[queue.Filters, Depends()],
        exclude: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006
    ) -> Next:
        with catalogue.session() as session:
            found = following(session, person, exclude, filters)
        if found.item is None and looked_through():
            with catalogue.session() as session:
                found = following(session, person, exclude, filters)
        return found

    def looked_through() -> bool:
        """Write the order anew if segments may have come since; tells whether they may have."""
        with catalogue.reading() as session:
            state = order.state(session)
        if state in known:
            return False
        for _ in order.refresh(catalogue, double_share):
            pass
        known[:] = [state]
        return True

    def look_through_once() -> None:
        """See that there is an overview; later it is kept up to date beside all else."""
        with catalogue.reading() as session:
            written = order.has_overview(session)
        if not written:
            looked_through()

    @api.get("/browse")
    def browsed(
        person: Who,
        filters: Annotated[queue.Filters, Depends()],
        listing: Annotated[browse.Listing, Depends()],
    ) -> Rows:
        look_through_once()
        with catalogue.reading() as session:
            rows, total = browse.page(session, person, filters, listing)
        return Rows.model_validate({"rows": rows, "total": total, "page_rows": browse.PAGE_ROWS})

    @api.get("/statistics")
    def figures(person: Who) -> statistics.Statistics:
        look_through_once()
        return statistics.compute(reader.rows(), person)

    app.state.figures = figures

    @api.get("/browse/choices")
    def choices() -> dict[str, list[str]]:
        with catalogue.reading() as session:
            return browse.choices(session)

    @api.post("/decide", responses={409: {}})
    def decide(person: Who, request: DecisionRequest) -> DecisionReply:
        wish = request.model_dump(exclude={"exclude", "filters", "version"})
        try:
            with catalogue.session() as session:
                decision = decisions.decide(
                    session,
                    reviewer=person.name,
                    seen=request.version,
                    double_share=double_share,
                    may_settle=person.may("adjudicator"),
                    at=time(),
                    **wish,
                )
        except standing.Conflict as conflict:
            conflict.yours = {key: wish[key] for key in ("action", "text", "reason")}
            raise
        found = next_item(person, request.filters, request.exclude)
        return DecisionReply(
            decision_id=decision.id,
            action=decision.action,
            transcript_id=decision.transcript_id,
            **dict(found),
        )

    @api.post("/undo")
    def undo(person: Who) -> ItemReply:
        with catalogue.session() as session:
            segment = decisions.undo(session, person.name, double_share)
            return ItemReply(item=opened(session, person, segment))

    @api.post("/split")
    def split(person: Who, request: SplitRequest) -> ItemsReply:
        with catalogue.session() as session:
            parts = recut.split(
                session,
                reviewer=person.name,
                segment_id=request.segment_id,
                at_ms=request.at_ms,
                texts=request.texts,
                client_id=request.client_id,
                seen=request.version,
                double_share=double_share,
                may_settle=person.may("adjudicator"),
            )
            return ItemsReply(items=[opened(session, person, part) for part in parts])

    @api.post("/merge")
    def merge(person: Who, request: MergeRequest) -> ItemsReply:
        with catalogue.session() as session:
            whole = recut.merge(
                session,
                reviewer=person.name,
                segment_id=request.segment_id,
                client_id=request.client_id,
                seen=request.version,
                double_share=double_share,
                may_settle=person.may("adjudicator"),
            )
            return ItemsReply(items=[opened(session, person, one) for one in whole])

    @api.post("/renew")
    def renew(person: Who, request: Leases) -> Leases:
        with catalogue.session() as session:
            return Leases(leases=leases.renew(session, request.leases, person.name, time()))

    @api.post("/release")
    def release(person: Who, request: Leases) -> Leases:
        with catalogue.session() as session:
            leases.release(session, request.leases, person.name)
        return Leases(leases=[])

    @api.get("/conflicts", dependencies=[needs("adjudicator")])
    def conflicts(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> list[Dispute]:
        with catalogue.session() as session:
            return [
                Dispute(
                    segment_id=segment.id,
                    title=segment.recording.title or segment.recording_id,
                    language=segment.recording.language,
                    seconds=(segment.end_ms - segment.start_ms) / 1000,
                    opinions=[standing.told(session, o) for o in standing.opinions(segment)],
                )
                for segment in queue.disputed_segments(session, limit)
            ]

    @api.get("/export", dependencies=[needs("admin")])
    def exported() -> StreamingResponse:
        as_file = {"Content-Disposition": 'attachment; filename="decisions.jsonl"'}
        return StreamingResponse(
            export.export(catalogue), media_type="application/x-ndjson", headers=as_file
        )

    @api.get("/users", dependencies=[needs("admin")])
    def users() -> list[dict[str, Any]]:
        with catalogue.session() as session:
            return [accounts.told(user) for user in accounts.every(session)]

    @api.post("/segments/{segment_id:path}/revert")
    def revert(person: Who, segment_id: str, request: RevertRequest) -> list[dict[str, Any]]:
        with catalogue.session() as session:
            segment = standing.find(session, segment_id)
            others = {made.reviewer for made in segment.decisions} - {person.name}
            if others and not person.may("adjudicator"):
                raise HTTPException(403, "others have decided here; ask an adjudicator")
            decisions.revert(
                session,
                segment,
                person.name,
                request.decision_id,
                double_share,
                may_settle=person.may("adjudicator"),
            )
            return _history(session, segment, person, double_share)

    @api.get("/segments/{segment_id:path}/history")
    def history(person: Who, segment_id: str) -> list[dict[str, Any]]:
        with catalogue.session() as session:
            return _history(session, standing.find(session, segment_id), person, double_share)

    @api.get("/segments/{segment_id:path}")
    def segment(person: Who, segment_id: str) -> ItemReply:
        with catalogue.session() as session:
            return ItemReply(item=opened(session, person, standing.find(session, segment_id)))

    def following(
        session: Session, person: Person, exclude: list[str], filters: queue.Filters
    ) -> Next:
        settles = person.may("adjudicator")
        wanted = replace(filters, conflicts=filters.conflicts and settles)
        found = queue.next_segment(session, person.name, exclude, wanted)
        return Next(
            item=opened(session, person, found) if found is not None else None,
            waiting=queue.count_waiting(session),
            conflicts=queue.count_waiting(session, disputed=True) if settles else 0,
        )

    def opened(session: Session, person: Person, segment: Segment) -> Item:
        """The segment, from now on the person's unless another has it."""
        name = person.name
        held_by = leases.holder(session, segment.id, name, time())
        token = leases.take(session, segment.id, name, time()) if held_by is None else None
        return _item(session, segment, person, double_share, token, held_by)

    @api.get("/peaks/{segment_id:path}")
    def peaks(segment_id: str) -> list[int]:
        return clip.cut(*span(segment_id)).peaks

    @app.get("/media/{segment_id:path}")
    def media(segment_id: str, request: Request, context: bool = False) -> Response:
        path, start_ms, end_ms = span(segment_id, context)
        return byte_range(clip.cut(path, start_ms, end_ms).flac, request.headers.get("range"))

    def span(segment_id: str, context: bool = False) -> tuple[Path, int, int]:
        with catalogue.reading() as session:
            segment = session.get(Segment, segment_id)
            if segment is None:
                raise standing.UnknownSegment(f"no segment {segment_id}")
            before, after = _context(segment) if context else (0, 0)
            return (
                workspace.path(segment.recording.media_path),
                segment.start_ms - before,
                segment.end_ms + after,
            )

    @app.exception_handler(UserError)
    def explain(_: Request, error: UserError) -> JSONResponse:
        status = {standing.UnknownSegment: 404, MediaError: 404, standing.Conflict: 409}
        told: dict[str, Any] = {"detail": str(error)}
        if isinstance(error, standing.Conflict):
            told |= {"yours": error.yours, "theirs": error.theirs}
        return JSONResponse(told, status.get(type(error), 422))

    app.include_router(api)


def _item(
    session: Session,
    segment: Segment,
    person: Person,
    double_share: float,
    token: str | None,
    held_by: str | None,
) -> Item:
    recording, shown = segment.recording, standing.shown_transcript(segment)
    address = quote(segment.id, safe="")
    reasons = segment.verdict.reasons if segment.verdict else []
    settles = person.may("adjudicator")
    disputed = settles and standing.is_disputed(segment)
    opinions = standing.opinions(segment) if disputed else []
    blind = standing.is_blind(segment, double_share, settles)
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
    before, after = _neighbours(session, segment)
    context_before, context_after = _context(segment)
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
        audio=f"/media/{address}",
        peaks=f"/api/v1/peaks/{address}",
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
        history=_history(session, segment, person, double_share),
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


def _context(segment: Segment) -> tuple[int, int]:
    """How much sound there is before and after a segment, in milliseconds, up to a limit."""
    rest = max(0, segment.recording.duration_ms - segment.end_ms)
    return min(CONTEXT_MS, segment.start_ms), min(CONTEXT_MS, rest)


def _neighbours(session: Session, segment: Segment) -> tuple[str | None, str | None]:
    """What is said just before and just after a segment."""
    same = select(Segment).filter(
        Segment.recording_id == segment.recording_id, Segment.id != segment.id
    )
    before = session.scalar(
        same.filter(Segment.start_ms < segment.start_ms).order_by(Segment.start_ms.desc()).limit(1)
    )
    after = session.scalar(
        same.filter(Segment.start_ms > segment.start_ms).order_by(Segment.start_ms).limit(1)
    )
    texts = [standing.shown_transcript(one) if one is not None else None for one in (before, after)]
    return (texts[0].text if texts[0] else None, texts[1].text if texts[1] else None)


def _in_words(reason: str) -> str:
    """A verdict's reason as a sentence."""
    kind, _, detail = reason.partition(":")
    told = (GROUNDS | FLAGS).get(kind)
    return f"{told[0].upper()}{told[1:]} ({detail.strip()})" if told and detail else told or reason


def _history(
    session: Session, segment: Segment, person: Person, double_share: float
) -> list[dict[str, Any]]:
    # Of a second opinion the first is no part.
    blind = standing.is_blind(segment, double_share, person.may("adjudicator"))
    made = session.scalars(select(Decision).filter_by(segment_id=segment.id).order_by(Decision.id))
    return [
        standing.told(session, decision)
        for decision in made
        if not blind or decision.reviewer == person.name
    ]


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
