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
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from sqlalchemy.orm import Session

from corpus.audio import MediaError
from corpus.catalogue import Catalogue, Segment
from corpus.errors import UserError
from corpus.workspace import Workspace
from review_app import (
    accounts,
    browse,
    clip,
    decisions,
    export,
    item,
    leases,
    order,
    queue,
    recut,
    standing,
    statistics,
)
from review_app.accounts import Person, Role
from review_app.guard import require_own_page
from review_app.messages import (
    DecisionReply,
    DecisionRequest,
    Dispute,
    Item,
    ItemReply,
    ItemsReply,
    Leases,
    MergeRequest,
    Next,
    RevertRequest,
    Rows,
    SessionInfo,
    SplitRequest,
)

REVIEWER_HEADER = "X-Reviewer"


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
            return item.history(session, segment, person, double_share)

    @api.get("/segments/{segment_id:path}/history")
    def history(person: Who, segment_id: str) -> list[dict[str, Any]]:
        with catalogue.session() as session:
            return item.history(session, standing.find(session, segment_id), person, double_share)

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
        return item.tell(session, segment, person, double_share, token, held_by)

    @app.get("/media/{segment_id:path}")
    def media(segment_id: str, request: Request, context: bool = False) -> Response:
        path, start_ms, end_ms = span(segment_id, context)
        return byte_range(clip.cut(path, start_ms, end_ms), request.headers.get("range"))

    def span(segment_id: str, context: bool = False) -> tuple[Path, int, int]:
        with catalogue.reading() as session:
            segment = session.get(Segment, segment_id)
            if segment is None:
                raise standing.UnknownSegment(f"no segment {segment_id}")
            before, after = item.context(segment) if context else (0, 0)
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
