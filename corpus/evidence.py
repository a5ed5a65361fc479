"""What the catalogue knows of each segment, read for the verdict.

Plain rows, and the scores of a transcript side by side in one: objects of the catalogue would take
ten times as long.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from sqlalchemy import ColumnElement, Select, case, func, select, true
from sqlalchemy.orm import Session

from corpus import console
from corpus.catalogue import (
    STANDS,
    Catalogue,
    Decision,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
)
from corpus.score import HEARD, MEASURED, Text
from corpus.subtitles.suspect import noted_suspicion
from corpus.text import normalise

Result = TypeVar("Result")

BATCH_ROWS = 500
"""Segments that one transaction reads, and judges: a fraction of a second."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the catalogue knows of a segment."""

    id: str
    recording_id: str
    seconds: float
    language: str
    """Of the recording."""
    group: str
    """Its channel, else its source: whose scores relative thresholds go by."""
    note: str | None = None
    """Of the recording's subtitles."""
    texts: Sequence[Text] = ()
    """In the order in which they were added."""
    decided: tuple[str, str | None, int | None] | None = None
    """The decision that holds: action, reason, transcript. It is what an adjudicator has settled,
    else the last one that stands and is no skip."""
    stored: tuple[str, list[str], int | None, str] | None = field(default=None, compare=False)
    """The verdict as it is stored: verdict, reasons, transcript, thresholds."""
    validated: bool = True
    """Whether listeners have agreed with a release's text, as far as it tells."""
    disputed: bool = False
    """Whether the decisions that stand differ, and none of them settles it."""

    @property
    def heard(self) -> Text | None:
        """The newest pseudo-label."""
        return next((text for text in reversed(self.texts) if text.kind == "pseudo"), None)

    @property
    def heard_by_another(self) -> Text | None:
        """The newest pseudo-label of another model."""
        newest = self.heard
        for text in reversed(self.texts):
            if text.kind == "pseudo" and newest is not None and text.origin != newest.origin:
                return text
        return None

    @property
    def label(self) -> Text | None:
        """What would be trained on without a reviewer: the newest text of a release, else of
        subtitles (not a machine's, where there is a pseudo-label), else of a model."""
        newest = {text.kind: text for text in self.texts}
        pseudo = newest.get("pseudo")
        if "release" in newest:
            return newest["release"]
        if "subtitle" in newest and (pseudo is None or noted_suspicion(self.note)[0] != "machine"):
            return newest["subtitle"]
        return pseudo


def disagree(kept: Iterable[str | None]) -> bool:
    """Whether people have decided differently: what each keeps as the text, None for a reject.

    Texts that are the same to the metrics are the same here.
    """
    return len({None if text is None else normalise(text) for text in kept}) > 1


def in_batches(
    catalogue: Catalogue,
    doing: str,
    work: Callable[[Session, list[Evidence]], Iterable[Result]],
    *,
    lock: bool = False,
    among: ColumnElement[bool] = true(),  # noqa: B008 - a constant of SQL
) -> Iterator[Result]:
    """The results of `work` on segments in the order of their ids, with a progress bar.

    Each batch is read and worked on in one transaction. `work` gives a result for each segment.
    `lock` is for work that writes: where the database has row locks, reviewers and other verdicts
    wait for its end.
    """
    with catalogue.session() as session:
        total = session.scalar(select(func.count()).select_from(Segment).filter(among)) or 0

    def results() -> Iterator[Result]:
        last = ""
        while True:
            with catalogue.session() as session:
                wanted = _SEGMENTS.filter(Segment.id > last, among)
                after = wanted.order_by(Segment.id).limit(BATCH_ROWS)
                batch = _read(session, after.with_for_update(of=Segment) if lock else after)
                found = work(session, batch)
            if not batch:
                return
            yield from found
            last = batch[-1].id

    yield from console.progress(results(), total=total, desc=doing, unit="segment")


def read_all(catalogue: Catalogue, doing: str) -> Iterator[Evidence]:
    """All segments in the order of their ids, with a progress bar."""
    return in_batches(catalogue, doing, lambda _, batch: batch)


def read_decided(catalogue: Catalogue, doing: str) -> Iterator[Evidence]:
    """The segments on which people have decided, whether that stands or not."""
    decided = Segment.id.in_(select(Decision.segment_id))
    return in_batches(catalogue, doing, lambda _, batch: batch, among=decided)


def read_one(catalogue: Catalogue, segment_id: str) -> Evidence | None:
    """One segment, or None where there is none of that id."""
    with catalogue.session() as session:
        return next(iter(_read(session, _SEGMENTS.filter(Segment.id == segment_id))), None)


def read_recording(catalogue: Catalogue, recording_id: str) -> list[Evidence]:
    """The segments of a recording."""
    with catalogue.session() as session:
        mine = _SEGMENTS.filter(Segment.recording_id == recording_id).order_by(Segment.id)
        return _read(session, mine)


_SEGMENTS = select(
    Segment.id,
    Segment.recording_id,
    Segment.start_ms,
    Segment.end_ms,
    Recording.language,
    func.coalesce(Recording.channel_id, Recording.source),
    Recording.subtitle_note,
    Recording.licence_evidence["validated"].as_boolean(),
).join(Recording)


def _read(
    session: Session, query: Select[str, str, int, int, str, str, str | None, bool | None]
) -> list[Evidence]:
    """Segments that follow each other by id, with all that is known of them."""
    segments = session.execute(query).all()
    if not segments:
        return []
    first, last = segments[0][0], segments[-1][0]
    names = (*HEARD, *MEASURED)
    columns = [func.max(case((Score.name == name, Score.value))) for name in names]
    spread = (
        select(Score.transcript_id, *columns)
        .join(Transcript)
        .filter(Transcript.segment_id.between(first, last))
        .group_by(Score.transcript_id)
    )
    scores = {
        key: {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for key, *values in session.execute(spread)
    }
    texts: dict[str, list[Text]] = defaultdict(list)
    for segment_id, key, kind, origin, text in session.execute(
        select(
            Transcript.segment_id,
            Transcript.id,
            Transcript.kind,
            Transcript.origin,
            Transcript.text,
        )
        .filter(Transcript.segment_id.between(first, last))
        .order_by(Transcript.id)
    ):
        texts[segment_id].append(Text(key, kind, origin, text, scores.get(key, {})))
    decisions: dict[str, list[_Decided]] = defaultdict(list)
    for segment_id, action, reason, transcript_id, adjudicates in session.execute(
        select(
            Decision.segment_id,
            Decision.action,
            Decision.reason,
            Decision.transcript_id,
            Decision.adjudicates,
        )
        .filter(Decision.segment_id.between(first, last), STANDS)
        .order_by(Decision.adjudicates, Decision.made_at, Decision.id)
    ):
        decisions[segment_id].append(_Decided(action, reason, transcript_id, adjudicates))
    stored = {
        segment_id: (verdict, reasons, transcript_id, version)
        for segment_id, verdict, reasons, transcript_id, version in session.execute(
            select(
                Verdict.segment_id,
                Verdict.verdict,
                Verdict.reasons,
                Verdict.transcript_id,
                Verdict.thresholds,
            ).filter(Verdict.segment_id.between(first, last))
        )
    }
    return [
        Evidence(
            id=key,
            recording_id=recording_id,
            seconds=(end_ms - start_ms) / 1000,
            language=language,
            group=group,
            note=note,
            texts=texts.get(key, ()),
            decided=made[-1][:3] if (made := decisions.get(key)) else None,
            stored=stored.get(key),
            validated=validated is not False,
            disputed=made is not None and _is_disputed(made, texts.get(key, ())),
        )
        for key, recording_id, start_ms, end_ms, language, group, note, validated in segments
    ]


class _Decided(NamedTuple):
    action: str
    reason: str | None
    transcript_id: int | None
    adjudicates: bool


def _is_disputed(made: Sequence[_Decided], texts: Sequence[Text]) -> bool:
    """Whether standing decisions on a segment, of which the last holds, differ."""
    if len(made) < 2 or made[-1].adjudicates:
        return False
    written = {text.id: text.text for text in texts}
    return disagree(written.get(one.transcript_id or 0) for one in made)
