"""The corpus in numbers: hours by source, label and verdict, losses, scores, channels, samples.

Counts and hours are summed by the database; single scores are read for histograms and medians. Each
table is read by itself, so that reviewers at work never wait long; while other commands run, two
tables may be some commits apart. 100,000 segments take a few seconds.
"""

import heapq
import json
import math
import re
import statistics
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Select, Text, case, cast, func, literal_column, select
from sqlalchemy.orm import Session, selectinload

from corpus import __version__, engine
from corpus.catalogue import (
    STANDS,
    Catalogue,
    Decision,
    Failure,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    now,
)
from corpus.report.made import datasets_built, runs_made
from corpus.status import SUBTITLES
from corpus.text import error_rates, normalise
from corpus.workspace import Workspace

VERDICTS = ("keep", "review", "drop", "none")
"""In this order in every table; `none` has not been judged yet."""

CER_SAMPLE = 5_000
"""Pairs of subtitle and model whose CER is computed where no score tells it: about a second."""

SAMPLES, SAMPLES_PER_REASON = 24, 2
"""Segments to listen to: in all, and for each verdict with each of its reasons."""

_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)*")


@dataclass(frozen=True)
class Scale:
    """The bins of a histogram; the first and the last also hold what lies beyond."""

    low: float
    step: float
    bins: int
    title: str
    unit: str


SCALES = {
    "cer": Scale(0.0, 0.05, 21, "Subtitle against model", "CER"),
    "avg_logprob": Scale(-2.0, 0.1, 20, "How sure the model was", "mean log-probability"),
    "duration": Scale(0.0, 1.0, 30, "Length of segments", "seconds"),
    "chars_per_second": Scale(0.0, 2.0, 21, "Pace", "characters per second"),
}


class Channel(NamedTuple):
    """Who published a recording; files and releases without channels count by source."""

    source: str
    id: str | None


class Judged(NamedTuple):
    """A segment that has a verdict."""

    id: str
    channel: Channel
    verdict: str
    reasons: tuple[str, ...]
    """Kinds of reasons, as `reason_kind` names them."""
    milliseconds: int
    characters: int | None


def report(workspace: Workspace, catalogue: Catalogue) -> dict[str, Any]:
    """Everything the report tells, as one JSON document; hours unless a name says otherwise."""
    with catalogue.session() as session:
        cube = _cube(session)
        recorded = _recorded(session)
        totals = _totals(session)
    with catalogue.session() as session:
        reviewers, failures = _reviewers(session), _failures(session)
        durations = _durations(session)
    judged = _judged(catalogue)
    cers, pairs = _cers(catalogue)
    logprobs = _newest_scores(catalogue, "avg_logprob")
    paces = {one.id: _pace(one) for one in judged if one.characters}
    paces |= {id: pace for id, (_, pace) in _newest_scores(catalogue, "chars_per_second").items()}
    return {
        "language": workspace.config.language,
        "made_at": now().isoformat(timespec="seconds"),
        "version": __version__,
        "totals": totals,
        "sources": _sources(cube, recorded),
        "licences": _by_verdict(cube, "licence"),
        "label_kinds": _by_verdict(cube, "label_kind"),
        "languages": _by_verdict(cube, "language"),
        "losses": _losses(judged, totals),
        "failures": failures,
        "histograms": {
            "cer": histogram([value for _, value in cers.values()], SCALES["cer"], pairs),
            "avg_logprob": histogram(
                [value for _, value in logprobs.values()], SCALES["avg_logprob"]
            ),
            "duration": histogram(durations, SCALES["duration"]),
            "chars_per_second": histogram(paces.values(), SCALES["chars_per_second"]),
        },
        "channels": _channels(
            cube, recorded, judged, cers, _newest_scores(catalogue, "align_start_shift")
        ),
        "reviewers": reviewers,
        "datasets": list(datasets_built(workspace.datasets)),
        "runs": list(runs_made(workspace.root / "runs")),
        "samples": _samples(catalogue, judged),
    }


def reason_kind(reason: str) -> str:
    """What a reason is about: its text up to the first colon, or without its numbers."""
    head, colon, _ = reason.partition(":")
    return " ".join((head if colon else _NUMBER.sub("", reason)).split())


def histogram(values: Iterable[float], scale: Scale, of: int | None = None) -> dict[str, Any]:
    """Counts by bin with the median; `of` is how many values there would be without sampling."""
    known = [value for value in values if math.isfinite(value)]
    counts = [0] * scale.bins
    for value in known:
        # A hair more, so that 0.15 is in the bin that begins with 0.15 and not in the one before.
        bin = math.floor((value - scale.low) / scale.step + 1e-9)
        counts[min(max(bin, 0), scale.bins - 1)] += 1
    return {
        "edges": [round(scale.low + scale.step * i, 6) for i in range(scale.bins + 1)],
        "counts": counts,
        "values": len(known),
        "of": len(known) if of is None else of,
        "median": statistics.median(known) if known else None,
    }


# --- from the catalogue ---------------------------------------------------------------------------

_CHANNEL = (Recording.source, Recording.channel_id)
_MS = Segment.end_ms - Segment.start_ms
# An expression, so that SQLite goes through the verdicts as they were written and not as the index
# on the bare column has them: see `corpus.status`.
_VERDICT = func.coalesce(Verdict.verdict, literal_column("'none'")).label("verdict")


def _cube(session: Session) -> list[dict[str, Any]]:
    """Segments and hours by everything that is told by verdict; one pass over the segments."""
    kind = func.coalesce(Transcript.kind, literal_column("'none'")).label("label_kind")
    keys = (*_CHANNEL, Recording.licence, Recording.language, kind, _VERDICT)
    query = (
        select(*keys, func.count().label("segments"), (func.sum(_MS) / 3_600_000.0).label("hours"))
        .select_from(Segment)
        .join(Recording, Recording.id == Segment.recording_id)
        .outerjoin(Verdict, Verdict.segment_id == Segment.id)
        .outerjoin(Transcript, Transcript.id == Verdict.transcript_id)
        .group_by(*_CHANNEL, Recording.licence, Recording.language, "label_kind", "verdict")
    )
    return [{**row, "hours": float(row["hours"])} for row in session.execute(query).mappings()]


def _recorded(session: Session) -> list[dict[str, Any]]:
    """Recordings and their hours by channel."""
    suspect = case((SUBTITLES.element.in_(("suspect_auto", "machine")), 1), else_=0)
    query = select(
        *_CHANNEL,
        func.max(Recording.channel).label("channel"),
        func.count().label("recordings"),
        (func.sum(Recording.duration_ms) / 3_600_000.0).label("hours"),
        func.sum(suspect).label("suspect_auto"),
    ).group_by(*_CHANNEL)
    return [{**row, "hours": float(row["hours"])} for row in session.execute(query).mappings()]


def _totals(session: Session) -> dict[str, Any]:
    def count(query: Select[Any, Any]) -> tuple[int, float]:
        number, milliseconds = session.execute(query).one()
        return number, float(milliseconds or 0) / 3_600_000

    segments = select(func.count(), func.sum(_MS)).select_from(Segment)
    # Lists made once: for EXISTS SQLite would look for each segment anew.
    labelled = select(Transcript.segment_id)
    reviewed = select(Decision.segment_id).filter(STANDS)
    recorded = select(func.count(), func.sum(Recording.duration_ms))
    uncut = recorded.filter(Recording.segmented_with.is_(None))
    queries = {
        ("recordings", "hours"): recorded,
        ("unsegmented_recordings", "unsegmented_hours"): uncut,
        ("segments", "speech_hours"): segments,
        ("labelled_segments", "labelled_hours"): segments.filter(Segment.id.in_(labelled)),
        ("reviewed_segments", "reviewed_hours"): segments.filter(Segment.id.in_(reviewed)),
    }
    return {
        name: value
        for names, query in queries.items()
        for name, value in zip(names, count(query), strict=True)
    }


def _durations(session: Session) -> list[float]:
    rows = session.execute(select(_MS, func.count()).group_by(_MS)).all()
    return [milliseconds / 1000 for milliseconds, count in rows for _ in range(count)]


def _judged(catalogue: Catalogue) -> list[Judged]:
    reasons = cast(Verdict.reasons, Text)
    query = (
        select(Segment.id, *_CHANNEL, _VERDICT, reasons, _MS, func.length(Transcript.text))
        .select_from(Verdict)
        .join(Segment, Segment.id == Verdict.segment_id)
        .join(Recording, Recording.id == Segment.recording_id)
        .outerjoin(Transcript, Transcript.id == Verdict.transcript_id)
    )
    with catalogue.session() as session:
        rows = session.execute(query).all()
    return [
        Judged(id, Channel(source, channel), verdict, _kinds(reasons), milliseconds, characters)
        for id, source, channel, verdict, reasons, milliseconds, characters in rows
    ]


def _pace(one: Judged) -> float:
    """Characters of the text as written for each second of the segment."""
    return 1000 * (one.characters or 0) / max(1, one.milliseconds)


@lru_cache(maxsize=10_000)
def _kinds(reasons: str) -> tuple[str, ...]:
    """The kinds of a JSON list of reasons, which many segments have in common."""
    kinds = dict.fromkeys(reason_kind(reason) for reason in json.loads(reasons))
    return tuple(kinds) or ("no reason told",)


def _newest_scores(
    catalogue: Catalogue, name: str, *kinds: str
) -> dict[str, tuple[Channel, float]]:
    """By segment: its channel, and the score of the newest of its transcripts that has one.

    Only transcripts of some `kinds` count, if such are given.
    """
    query = (
        select(Segment.id, *_CHANNEL, Score.value)
        .select_from(Score)
        .join(Transcript, Transcript.id == Score.transcript_id)
        .join(Segment, Segment.id == Transcript.segment_id)
        .join(Recording, Recording.id == Segment.recording_id)
        .filter(Score.name == name)
        .order_by(Transcript.id)
    )
    if kinds:
        query = query.filter(Transcript.kind.in_(kinds))
    with catalogue.session() as session:
        rows = session.execute(query).all()
    return {id: (Channel(source, channel), value) for id, source, channel, value in rows}


def _cers(catalogue: Catalogue) -> tuple[dict[str, tuple[Channel, float]], int]:
    """CER of the newest subtitle against the newest pseudo-label by segment, and of how many.

    Where no score tells it, it is computed, for at most `CER_SAMPLE` segments evenly spread.
    """
    found = _newest_scores(catalogue, "cer", "subtitle")

    def newest(kind: str) -> Any:
        return (
            select(Transcript.segment_id, func.max(Transcript.id).label("id"))
            .join(Transcript.segment)  # without which superseded ones would count
            .filter(Transcript.kind == kind)
            .group_by(Transcript.segment_id)
            .subquery()
        )

    subtitle, pseudo = newest("subtitle"), newest("pseudo")
    query = (
        select(subtitle.c.segment_id, subtitle.c.id, pseudo.c.id)
        .join(pseudo, pseudo.c.segment_id == subtitle.c.segment_id)
        .order_by(subtitle.c.segment_id)
    )
    with catalogue.session() as session:
        absent = [row for row in session.execute(query).all() if row[0] not in found]
    pairs = len(found) + len(absent)
    size = min(CER_SAMPLE, len(absent))
    chosen = (absent[i * len(absent) // size] for i in range(size))
    for batch in engine.batches(chosen, 400):
        ids = [id for _, *two in batch for id in two]
        of_segments = (
            select(Segment.id, *_CHANNEL)
            .join(Recording, Recording.id == Segment.recording_id)
            .filter(Segment.id.in_([segment for segment, *_ in batch]))
        )
        with catalogue.session() as session:
            texts = dict(
                session.execute(
                    select(Transcript.id, Transcript.text).filter(Transcript.id.in_(ids))
                )
                .tuples()
                .all()
            )
            rows = session.execute(of_segments).all()
            channels = {id: Channel(source, channel) for id, source, channel in rows}
        for segment, reference, hypothesis in batch:
            found[segment] = (channels[segment], _cer(texts[reference], texts[hypothesis]))
    return found, pairs


def _cer(reference: str, hypothesis: str) -> float:
    """CER of two normalised texts; 1.0 where only the reference is empty."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return float(bool(hypothesis))
    return error_rates([reference], [hypothesis]).cer


def _reviewers(session: Session) -> list[dict[str, Any]]:
    actions = ("accept", "correct", "reject", "skip")
    decided = case((STANDS, _MS), else_=0)
    query = (
        select(
            Decision.reviewer,
            *(
                func.sum(case((Decision.action == name, 1), else_=0)).label(name)
                for name in actions
            ),
            (func.sum(decided) / 3_600_000.0).label("hours"),
        )
        .join(Segment, Segment.id == Decision.segment_id)
        .group_by(Decision.reviewer)
        .order_by(Decision.reviewer)
    )
    return [{**row, "hours": float(row["hours"])} for row in session.execute(query).mappings()]


def _failures(session: Session) -> list[dict[str, Any]]:
    keys = (Failure.stage, Failure.kind.label("reason"), Failure.transient.label("retried"))
    query = (
        select(*keys, func.count().label("items"))
        .group_by(Failure.stage, Failure.kind, Failure.transient)
        .order_by(Failure.stage, Failure.kind, Failure.transient)
    )
    return [dict(row) for row in session.execute(query).mappings()]


def _samples(catalogue: Catalogue, judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """Segments of each verdict with each reason, the most frequent reason first.

    The choice looks random and is the same each time: it goes by a hash of the segment's id.
    """
    groups: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for one in judged:
        groups[one.verdict, one.reasons[0]].append((zlib.crc32(one.id.encode()), one.id))
    ordered = sorted(groups, key=lambda group: (-len(groups[group]), group))
    first = {group: heapq.nsmallest(SAMPLES_PER_REASON, groups[group]) for group in ordered}
    # One of each group before the second of any.
    chosen = [
        (group, first[group][turn][1])
        for turn in range(SAMPLES_PER_REASON)
        for group in ordered
        if turn < len(first[group])
    ][:SAMPLES]
    chosen.sort(key=lambda sample: (VERDICTS.index(sample[0][0]), ordered.index(sample[0])))
    with catalogue.session() as session:
        query = (
            select(Segment)
            .filter(Segment.id.in_([id for _, id in chosen]))
            .options(
                selectinload(Segment.transcripts),
                selectinload(Segment.verdict),
                selectinload(Segment.recording),
            )
        )
        segments = {segment.id: segment for segment in session.scalars(query)}
        return [_sample(group, segments[id]) for group, id in chosen if id in segments]


def _sample(group: tuple[str, str], segment: Segment) -> dict[str, Any]:
    recording = segment.recording
    return {
        "segment_id": segment.id,
        "verdict": group[0],
        "reason": group[1],
        "reasons": segment.verdict.reasons if segment.verdict else [],
        "start_ms": segment.start_ms,
        "end_ms": segment.end_ms,
        "transcripts": [
            {"kind": made.kind, "origin": made.origin, "text": made.text}
            for made in segment.transcripts
        ],
        "title": recording.title,
        "url": recording.url,
        "language": recording.language,
        "licence": recording.licence,
        "attribution": recording.attribution,
        "redistributable": recording.redistributable,
        "media_path": recording.media_path,
    }


# --- sums -----------------------------------------------------------------------------------------


def _by_verdict(cube: Iterable[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """Hours of each verdict by one column of the cube, most hours first."""
    rows: dict[str, dict[str, Any]] = {}
    for cell in cube:
        row = rows.setdefault(
            cell[key], {key: cell[key], "segments": 0, **dict.fromkeys(VERDICTS, 0.0)}
        )
        row["segments"] += cell["segments"]
        row[cell["verdict"]] += cell["hours"]
    return sorted(rows.values(), key=lambda row: (-_hours(row), row[key]))


def _hours(row: dict[str, Any]) -> float:
    return float(sum(row[verdict] for verdict in VERDICTS))


def _sources(
    cube: Iterable[dict[str, Any]], recorded: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """As `_by_verdict`, with what was recorded; sources without a segment are there too."""
    cut = {row["source"]: row for row in _by_verdict(cube, "source")}
    rows: dict[str, dict[str, Any]] = {}
    for part in recorded:
        source = part["source"]
        nothing = {"segments": 0, **dict.fromkeys(VERDICTS, 0.0)}
        row = rows.setdefault(
            source, {"source": source, "recordings": 0, "hours": 0.0, **cut.get(source, nothing)}
        )
        row["recordings"] += part["recordings"]
        row["hours"] += part["hours"]
    return sorted(rows.values(), key=lambda row: (-row["hours"], row["source"]))


def _losses(judged: Iterable[Judged], totals: dict[str, Any]) -> list[dict[str, Any]]:
    """Segments and hours that are not kept, by verdict and reason, most hours first.

    A segment with two reasons counts for both.
    """
    segments: Counter[tuple[str, str]] = Counter()
    milliseconds: Counter[tuple[str, str]] = Counter()
    for one in judged:
        if one.verdict != "keep":
            for reason in one.reasons:
                segments[one.verdict, reason] += 1
                milliseconds[one.verdict, reason] += one.milliseconds
    rows = [
        {
            "verdict": verdict,
            "reason": reason,
            "segments": count,
            "hours": milliseconds[verdict, reason] / 3_600_000,
        }
        for (verdict, reason), count in segments.items()
    ]
    cut = totals["hours"] - totals["unsegmented_hours"]
    outside = {
        "not cut into segments yet": totals["unsegmented_hours"],
        "outside all segments": max(0.0, cut - totals["speech_hours"]),
    }
    rows += [
        {"verdict": "none", "reason": reason, "segments": 0, "hours": hours}
        for reason, hours in outside.items()
        if hours > 0
    ]
    return sorted(rows, key=lambda row: (-row["hours"], row["verdict"], row["reason"]))


def _channels(
    cube: Iterable[dict[str, Any]],
    recorded: Iterable[dict[str, Any]],
    judged: Iterable[Judged],
    cers: dict[str, tuple[Channel, float]],
    shifts: dict[str, tuple[Channel, float]],
) -> list[dict[str, Any]]:
    """Channels, those first that deserve a second look: the median CER times the hours.

    Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2.1, look through
    their sources in the order of error rate and size together.
    """
    kept: Counter[Channel] = Counter()
    cut: Counter[Channel] = Counter()
    for cell in cube:
        channel = Channel(cell["source"], cell["channel_id"])
        cut[channel] += cell["hours"]
        kept[channel] += cell["hours"] if cell["verdict"] == "keep" else 0
    reasons: dict[Channel, Counter[str]] = defaultdict(Counter)
    for one in judged:
        if one.verdict != "keep":
            reasons[one.channel].update(one.reasons)
    cer, shift = _medians(cers), _medians(shifts)
    rows = []
    for part in recorded:
        channel = Channel(part["source"], part["channel_id"])
        frequent = sorted(reasons[channel].items(), key=lambda item: (-item[1], item[0]))[:2]
        rows.append(
            {
                **part,
                "segment_hours": cut[channel],
                "kept_share": kept[channel] / cut[channel] if cut[channel] else None,
                "median_cer": cer.get(channel),
                "median_align_start_shift": shift.get(channel),
                "reasons": dict(frequent),
            }
        )
    return sorted(
        rows,
        key=lambda row: (
            -(row["median_cer"] or 0.0) * row["segment_hours"],
            -row["segment_hours"] * (1 - (row["kept_share"] or 0.0)),
            row["source"],
            row["channel_id"] or "",
        ),
    )


def _medians(values: dict[str, tuple[Channel, float]]) -> dict[Channel, float]:
    groups: dict[Channel, list[float]] = defaultdict(list)
    for channel, value in values.values():
        groups[channel].append(value)
    return {channel: statistics.median(group) for channel, group in groups.items()}
