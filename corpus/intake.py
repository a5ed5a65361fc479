"""Clips of published data sets into the tables, thousands at a time; what is odd in their texts."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from corpus import console, conventions, engine
from corpus.catalogue import (
    Catalogue,
    Cue,
    Failure,
    Recording,
    Segment,
    Transcript,
    now,
    segment_id,
)
from corpus.collect import Removed, removed_items
from corpus.errors import ItemError
from corpus.segment import MAX_SECONDS

Item = TypeVar("Item")

SAMPLED_TEXTS = 20_000
"""Of other sources, to compare with."""


@dataclass(frozen=True)
class Arrival:
    """A recording as it will stand in the catalogue, and the text that came with it.

    `columns` are those of the table of recordings.
    """

    columns: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Terms:
    """What holds for all clips of a release: source, origin of ids and speakers, licence."""

    source: str
    prefix: str
    licence_raw: str
    licence: str
    redistributable: bool
    attribution: str
    stated_by: str = "release"
    """Who says what the licence is: the release, the data set's card, or the user."""

    @property
    def columns(self) -> dict[str, Any]:
        """What all of its recordings have in common in their table."""
        return {
            "source": self.source,
            "licence_raw": self.licence_raw,
            "licence": self.licence,
            "redistributable": self.redistributable,
            "attribution": self.attribution,
        }


def take(
    catalogue: Catalogue,
    items: Iterable[Item],
    identity: Callable[[Item], str],
    arrive: Callable[[str, Item], Arrival],
    terms: Terms,
    *,
    rows: int,
) -> engine.Counts:
    """Bring in what is not here yet, `rows` in a transaction; one item's failure is its own.

    An item that failed is tried again by the next run, unless it was removed by the user's wish.

    Args:
        identity: the id of an item's recording.
        arrive: makes the recording of that id; it may raise an `ItemError`.
    """
    with catalogue.session() as session:
        ours = Recording.id.startswith(f"{terms.prefix}:", autoescape=True)
        seen = set(session.scalars(select(Recording.id).filter(ours)))
        failed_before = dict(
            session.execute(select(Failure.item, Failure.kind).filter_by(stage="import"))
            .tuples()
            .all()
        )
    seen |= {id for id, kind in failed_before.items() if kind == "removed"}
    removed = removed_items(catalogue)

    def new(items: Iterable[Item]) -> Iterator[tuple[str, Item]]:
        for item in items:
            id = identity(item)
            if id not in seen:
                seen.add(id)
                yield id, item

    waiting: Iterable[tuple[str, Item]] = new(items)
    if isinstance(items, list):  # of a stream nobody knows the length
        waiting = list(waiting)
    done = failed = long = silent = 0
    bar = console.progress(waiting, desc="import", unit="clip")
    for batch in engine.batches(bar, rows):
        arrived: list[Arrival] = []
        refused: list[tuple[str, str, ItemError]] = []
        for id, item in batch:
            try:
                if id in removed:
                    refused.append((id, "removed", Removed(id)))
                else:
                    arrived.append(arrive(id, item))
            except ItemError as error:
                refused.append((id, "bad_media", error))
        with catalogue.session() as session:
            _insert(session, arrived, terms)
            for one in arrived:
                if (id := one.columns["id"]) in failed_before:
                    catalogue.clear_failure(session, stage="import", item=id)
            for id, kind, why in refused:
                catalogue.record_failure(
                    session,
                    stage="import",
                    item=id,
                    kind=kind,
                    message=str(why),
                    transient=kind != "removed",
                )
        done, failed = done + len(arrived), failed + len(refused)
        long += sum(bool(one.text) and not _fits(one) for one in arrived)
        silent += sum(not one.text for one in arrived)
    if long:
        console.say(
            f"{terms.source}: {long} clips are longer than {MAX_SECONDS:.0f} s: their whole text "
            "is one cue, for `corpus segment` to divide"
        )
    if silent:
        console.say(f"{terms.source}: {silent} clips have no text; `corpus label` gives them one")
    return engine.Counts(done, failed)


def _fits(one: Arrival) -> bool:
    """Whether a recording is short enough to be one segment."""
    return bool(one.columns["duration_ms"] <= MAX_SECONDS * 1000)


def _insert(session: Session, arrived: Sequence[Arrival], terms: Terms) -> None:
    """Insert recordings, each with its text: as a segment's, or as a cue's where it is too long."""
    moment = now()
    origin = terms.source.partition("/")[2]
    recordings: list[dict[str, Any]] = []
    segments: list[dict[str, Any]] = []
    transcripts: list[dict[str, Any]] = []
    cues: list[dict[str, Any]] = []
    for one in arrived:
        id, length = one.columns["id"], one.columns["duration_ms"]
        whole = bool(one.text) and _fits(one)
        recordings.append(
            one.columns | {"segmented_with": origin if whole else None, "added_at": moment}
        )
        if whole:
            name = segment_id(id, 0, length)
            segments.append({"id": name, "recording_id": id, "start_ms": 0, "end_ms": length})
            transcripts.append(
                {
                    "segment_id": name,
                    "kind": "release",
                    "origin": origin,
                    "text": one.text,
                    "made_at": moment,
                }
            )
        elif one.text:
            span = {"recording_id": id, "position": 0, "start_ms": 0, "end_ms": length}
            cues.append(span | {"text": one.text})
    tables: dict[Any, list[dict[str, Any]]] = {
        Recording.__table__: recordings,
        Segment.__table__: segments,
        Transcript.__table__: transcripts,
        Cue.__table__: cues,
    }
    for table, rows in tables.items():
        if rows:  # no rows would insert one of defaults
            session.execute(insert(table), rows)


def tell_conventions(catalogue: Catalogue, source: str, texts: Sequence[str]) -> None:
    """Say what is odd in the texts of a source, and what it writes otherwise than the rest."""
    others = select(Transcript.text).join(Segment).join(Recording)
    with catalogue.session() as session:
        # As many as show the habits of the others, from all over the catalogue.
        step = max(1, (session.scalar(select(func.max(Transcript.id))) or 0) // SAMPLED_TEXTS)
        rest = session.scalars(
            others.filter(
                Recording.source != source,
                Transcript.kind.in_(["release", "subtitle", "review"]),
                Transcript.id % step == 0,
            )
        ).all()
    found = conventions.survey(text for text in texts if text)
    for note in [
        *conventions.removed_notes(texts),
        *conventions.odd_notes(found),
        *conventions.differences(found, conventions.survey(rest)),
    ]:
        console.say(f"{source}: {note}")
