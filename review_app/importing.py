"""Decisions from a file of `review_app.export` into a catalogue that has the recordings.

Nothing is decided twice and nothing here is lost: what the catalogue knows already, by its
client_id, stays, save that it is taken back where the file knows that it was. All else is added
beside what is here, and what holds then follows the rules of reviewing:

- Of two people's decisions on a segment both stand; where they differ an adjudicator has to settle
  it. Of two that one person has made in two places the later one holds.
- A segment that was cut in two places keeps the cut that was made first; the later one counts as
  taken back, and what was decided on its parts is history. A cut holds against decisions on the
  whole.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from pydantic import ValidationError
from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from corpus import console
from corpus.catalogue import STANDS, Catalogue, Decision, Recording, Segment, Transcript
from corpus.engine import batches
from corpus.errors import UserError
from corpus.text import clean_transcript
from review_app import order
from review_app.export import BATCH_ROWS, Line


@dataclass
class Imported:
    """What came of an import: numbers of decisions.

    Attributes:
        added: those that are new here.
        known: those that were here already.
        taken_back: of these, those that only the file knew to be taken back.
        without_recording: those about a recording that is not here; left out.
        without_segment: those about a segment that its recording does not have here; left out.
        replaced: earlier ones of people who have decided the segment again elsewhere.
        cut_otherwise: cuts that count as taken back, as another was made before.
    """

    added: int = 0
    known: int = 0
    taken_back: int = 0
    without_recording: int = 0
    without_segment: int = 0
    replaced: int = 0
    cut_otherwise: int = 0


def in_words(found: Imported) -> Iterator[tuple[int, str]]:
    """Numbers, and what they count; after the first those that are not 0."""
    yield found.added, "decisions added; `corpus verdict` uses them"
    for count, told in (
        (found.known, "were here already"),
        (found.taken_back, "of these are taken back now"),
        (found.without_recording, "left out: their recordings are not here"),
        (found.without_segment, "left out: their recordings have no such segments here"),
        (found.replaced, "hold no longer: the same person has decided the segment again later"),
        (found.cut_otherwise, "cuts count as taken back: the segments had been cut otherwise"),
    ):
        if count:
            yield count, told


@dataclass
class _Import:
    """What one import knows while it goes on, of decisions by client_id."""

    session: Session
    told: Imported = field(default_factory=Imported)
    ids: dict[str, int] = field(default_factory=dict)
    transcripts: dict[str, int] = field(default_factory=dict)
    """Ids of their texts."""
    stood: dict[str, bool] = field(default_factory=dict)
    """Those that were here already, and whether they stand."""
    undone: list[Line] = field(default_factory=list)
    standing: list[str] = field(default_factory=list)
    """Those that stand in the file and do not here."""
    touched: set[str] = field(default_factory=set)
    """Segments of which something has changed."""


def import_decisions(catalogue: Catalogue, file: BinaryIO, name: str) -> Imported:
    """Add the decisions of a file, all or none: it is one transaction. `file` is read twice.

    Raises:
        UserError: a line is none of `export`; `name` and its number are told.
    """
    cuts, total = [], 0
    for line in _lines(file, name):
        total += 1
        if line.cut is not None:
            cuts.append(line)
    file.seek(0)
    with catalogue.session() as session:
        run = _Import(session)
        _make_segments(run, cuts)
        lines = console.progress(_lines(file, name), total=total, desc="import", unit="decision")
        for batch in batches(lines, BATCH_ROWS):
            _add(run, batch)
        _take_back(run)
        _let_the_later_hold(run)
        _apply_cuts(run)
        session.flush()
        for some in batches(sorted(run.touched), BATCH_ROWS):
            # Only the server knows the share of what two people decide.
            order.refresh_span(session, some[0], some[-1], double_share=None)
    return run.told


def _lines(file: BinaryIO, name: str) -> Iterator[Line]:
    for number, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            if b"\\u0000" in text:  # PostgreSQL has no such character
                raise UserError("a NUL character")
            yield Line.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            told = first["msg"].removeprefix("Value error, ")
            why = f"{place}: {told}" if place else told
            raise UserError(f"{name}, line {number}: {why}; nothing is imported") from None
        except UserError as error:
            raise UserError(f"{name}, line {number}: {error}; nothing is imported") from None


def _there(session: Session, keys: Iterable[str]) -> set[str]:
    """Which segments are here, those included that have been cut anew."""
    found: set[str] = set()
    for some in batches(keys, BATCH_ROWS):
        query = select(Segment.id).filter(Segment.id.in_(some))
        found |= set(session.scalars(query, execution_options={"superseded": True}))
    return found


def _make_segments(run: _Import, cuts: Sequence[Line]) -> None:
    """Make what came of cuts, of segments that are here; hidden until it is known what holds."""
    cuts = sorted(cuts, key=lambda line: line.made_at)
    named = {key for line in cuts if line.cut for key in (*line.cut.before, *line.cut.after)}
    here = _there(run.session, named)
    for line in cuts:
        if line.cut is None or not here.issuperset(line.cut.before):
            continue
        for key, start_ms, end_ms in line.cut.spans:
            if key not in here:
                here.add(key)
                run.session.add(
                    Segment(
                        id=key,
                        recording_id=line.recording_id,
                        start_ms=start_ms,
                        end_ms=end_ms,
                        superseded=True,
                    )
                )
    run.session.flush()


def _add(run: _Import, batch: Sequence[Line]) -> None:
    """Add what is new of some lines."""
    _look_up(run, batch)
    here = _there(run.session, {key for line in batch for key in _segments_of(line)})
    of = {line.recording_id for line in batch}
    recordings = set(run.session.scalars(select(Recording.id).filter(Recording.id.in_(of))))
    new: dict[str, Line] = {}
    for line in batch:
        if line.undone:
            run.undone.append(line)
        elif run.stood.get(line.client_id) is False:
            run.standing.append(line.client_id)
        if line.client_id in run.ids or line.client_id in new:
            run.told.known += 1
        elif line.recording_id not in recordings:
            run.told.without_recording += 1
        elif not here.issuperset(_segments_of(line)):
            run.told.without_segment += 1
        else:
            new[line.client_id] = line
    if new:
        _add_texts(run, new)
        _add_decisions(run, new)


def _segments_of(line: Line) -> list[str]:
    return [line.segment_id, *(line.cut.after if line.cut else [])]


def _look_up(run: _Import, batch: Sequence[Line]) -> None:
    """Note which decisions are here already."""
    names = [line.client_id for line in batch if line.client_id not in run.ids]
    for name, key, text, undone_by in run.session.execute(
        select(Decision.client_id, Decision.id, Decision.transcript_id, Decision.undone_by).filter(
            Decision.client_id.in_(names)
        )
    ):
        run.ids[name], run.stood[name] = key, undone_by is None
        if text is not None:
            run.transcripts[name] = text


def _add_texts(run: _Import, new: dict[str, Line]) -> None:
    """Add the texts of decisions, and those typed for what came of a cut, in their order."""
    texts: list[tuple[str | None, str, str, Line]] = []
    for name, line in new.items():
        if line.cut is not None:
            typed = zip(line.cut.after, line.cut.texts, strict=False)
            texts += [(None, key, text, line) for key, text in typed if text]
        repeats = line.repeats in new or line.repeats in run.transcripts
        if line.after is not None and not repeats:
            texts.append((name, line.segment_id, line.after, line))
    if not texts:
        return
    rows: list[dict[str, Any]] = [
        {
            "segment_id": key,
            "kind": "review",
            "origin": line.reviewer,
            "text": clean_transcript(text),
            "made_at": line.made_at,
        }
        for _, key, text, line in texts
    ]
    top = run.session.scalar(select(func.max(Transcript.id))) or 0
    run.session.execute(insert(Transcript), rows)
    # Ids by content, in order, rather than one insert at a time.
    ids: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for some in batches({row["segment_id"] for row in rows}, BATCH_ROWS):
        made = select(
            Transcript.id, Transcript.segment_id, Transcript.origin, Transcript.text
        ).filter(Transcript.segment_id.in_(some), Transcript.id > top)
        for key, *what in run.session.execute(made.order_by(Transcript.id.desc())):
            ids[tuple(what)].append(key)
    for (owner, *_), row in zip(texts, rows, strict=True):
        key = ids[row["segment_id"], row["origin"], row["text"]].pop()
        if owner is not None:
            run.transcripts[owner] = key


def _add_decisions(run: _Import, new: dict[str, Line]) -> None:
    rows: list[dict[str, Any]] = []
    for name, line in new.items():
        if name not in run.transcripts and line.repeats in run.transcripts:
            run.transcripts[name] = run.transcripts[line.repeats]
        rows.append(
            {
                **{column: getattr(line, column) for column in _COLUMNS},
                "transcript_id": run.transcripts.get(name),
                "cut": line.cut.as_stored() if line.cut else None,
            }
        )
    run.session.execute(insert(Decision), rows)
    made = select(Decision.client_id, Decision.id).filter(Decision.client_id.in_(new))
    run.ids |= {name: key for name, key in run.session.execute(made)}
    run.told.added += len(new)
    run.touched |= {line.segment_id for line in new.values()}


_COLUMNS = (
    "client_id",
    "segment_id",
    "reviewer",
    "action",
    "reason",
    "before",
    "made_at",
    "lead_ms",
    "adjudicates",
)
"""What a decision and its line have in common."""


def _take_back(run: _Import) -> None:
    """Take back what the file knows to be taken back."""
    rows = []
    for line in run.undone:
        name, key = line.client_id, run.ids.get(line.client_id)
        if key is None or run.stood.get(name) is False:
            continue
        rows.append({"id": key, "undone_by": run.ids.get(line.undone_by or name, key)})
        run.touched.add(line.segment_id)
        if name in run.stood:
            run.told.taken_back += 1
            run.stood[name] = False
    if rows:
        run.session.execute(update(Decision), rows)
        _let_hold_again(run, {row["id"] for row in rows})


def _let_hold_again(run: _Import, gone: Collection[int]) -> None:
    """Let hold again what stands in the file and was replaced by what is taken back now."""
    again = []
    for some in batches(run.standing, BATCH_ROWS):
        known = select(Decision.id, Decision.segment_id, Decision.undone_by)
        for key, segment, by in run.session.execute(known.filter(Decision.client_id.in_(some))):
            if by in gone:
                again.append({"id": key, "undone_by": None})
                run.touched.add(segment)
    if again:
        run.session.execute(update(Decision), again)


def _let_the_later_hold(run: _Import) -> None:
    """Take back what a person has decided before on a segment that they have decided twice."""
    whose = (Decision.segment_id, Decision.reviewer, Decision.adjudicates)
    twice = select(*whose).filter(STANDS).group_by(*whose).having(func.count() > 1)
    for segment_id, reviewer, adjudicates in run.session.execute(twice).all():
        made = select(Decision.id).filter(
            STANDS,
            Decision.segment_id == segment_id,
            Decision.reviewer == reviewer,
            Decision.adjudicates == adjudicates,
        )
        *earlier, last = run.session.scalars(made.order_by(Decision.made_at, Decision.id))
        run.session.execute(update(Decision), [{"id": key, "undone_by": last} for key in earlier])
        run.told.replaced += len(earlier)
        run.touched.add(segment_id)


def _apply_cuts(run: _Import) -> None:
    """Hide and show segments as the cuts that stand have it, in the order in which they were made.

    A cut of what another has taken away counts as taken back.
    """
    cuts = (
        select(Decision.id, Decision.cut, Decision.undone_by)
        .filter(Decision.cut.is_not(None))
        .order_by(Decision.made_at, Decision.id)
    )
    shown: dict[str, bool] = {}
    taken_by: dict[str, int] = {}
    late = []
    for key, cut, undone_by in run.session.execute(cuts):
        if cut is None:
            continue  # JSON's own null, as older versions wrote it
        before, after = cut["from"], cut["to"]
        for segment in before:
            shown.setdefault(segment, True)  # what no cut has made was there before any
        for segment in after:
            shown.setdefault(segment, False)
        if undone_by is not None:
            continue
        gone = [segment for segment in before if not shown[segment]]
        if gone:
            late.append({"id": key, "undone_by": taken_by.get(gone[0], key)})
            continue
        taken_by |= dict.fromkeys(before, key)
        shown |= dict.fromkeys(before, False) | dict.fromkeys(after, True)
    if late:
        run.session.execute(update(Decision), late)
        run.told.cut_otherwise += len(late)
    changed: list[dict[str, Any]] = []
    for some in batches(shown, BATCH_ROWS):
        flags = select(Segment.id, Segment.superseded).filter(Segment.id.in_(some))
        found = run.session.execute(flags, execution_options={"superseded": True})
        changed += [
            {"id": key, "superseded": not shown[key]}
            for key, superseded in found
            if superseded == shown[key]
        ]
    if changed:
        run.session.execute(update(Segment), changed)
        run.touched |= {row["id"] for row in changed}
