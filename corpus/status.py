"""What the workspace holds, in numbers: recordings, refusals with reasons, hours by label."""

from collections import Counter
from typing import Any

from sqlalchemy import case, distinct, func, literal_column, select

from corpus import console
from corpus.catalogue import Catalogue, Decision, Failure, Recording, Segment, Transcript, Verdict

SUBTITLES = case(
    (Recording.subtitle_note.startswith("suspect_auto: ", autoescape=True), "suspect_auto"),
    (Recording.subtitle_note.startswith("machine: ", autoescape=True), "machine"),
    (Recording.subtitle_path.is_not(None) & Recording.subtitle_note.is_(None), "as they came"),
    (Recording.subtitle_path.is_not(None), "cleaned"),
    else_=func.coalesce(Recording.subtitle_note, "none"),
).label("subtitles")
"""SQL: what the subtitles of a recording are, or why it has none that can be used."""


def status(catalogue: Catalogue) -> dict[str, Any]:
    """Counts and hours of everything in the catalogue, as one JSON document."""
    seconds = func.sum(Segment.end_ms - Segment.start_ms) / 1000.0
    # An expression, so that SQLite goes through the verdicts as they were written: in the order of
    # the index on the bare column every look at a segment and a transcript would be a far jump.
    verdict = func.coalesce(Verdict.verdict, literal_column("''"))
    superseded = Segment.__table__  # a table, where queries on the class leave these out
    with catalogue.session() as session:
        sources = session.execute(
            select(Recording.source, func.count(), func.sum(Recording.duration_ms) / 3_600_000.0)
            .group_by(Recording.source)
            .order_by(Recording.source)
        ).all()
        subtitles = session.execute(
            select(SUBTITLES, func.count()).group_by("subtitles").order_by("subtitles")
        ).all()
        models = session.execute(
            select(Transcript.origin, func.count())
            .filter(Transcript.kind == "pseudo")
            .group_by(Transcript.origin)
            .order_by(Transcript.origin)
        ).all()
        labelled = session.scalar(
            select(func.count(distinct(Transcript.segment_id))).filter(
                Transcript.kind.in_(("pseudo", "release")),
                Transcript.segment_id.not_in(
                    select(superseded.c.id).filter(superseded.c.superseded)
                ),
            )
        )
        verdicts = session.execute(
            select(verdict, Transcript.kind, func.count(), seconds)
            .select_from(Verdict)
            .join(Segment, Segment.id == Verdict.segment_id)
            .outerjoin(Transcript, Transcript.id == Verdict.transcript_id)
            .group_by(verdict, Transcript.kind)
            .order_by(verdict, Transcript.kind)
        ).all()
        failures = [
            dict(row)
            for row in session.execute(
                select(
                    Failure.stage,
                    Failure.item,
                    Failure.kind.label("reason"),
                    Failure.message,
                    Failure.url,
                    Failure.transient.label("retried"),
                    Failure.attempts,
                ).order_by(Failure.stage, Failure.item)
            ).mappings()
        ]
        counts = {
            "segments": session.scalar(select(func.count()).select_from(Segment)),
            "transcripts": session.scalar(select(func.count()).select_from(Transcript)),
            "decisions": session.scalar(select(func.count()).select_from(Decision)),
            "unsegmented": session.scalar(
                select(func.count())
                .select_from(Recording)
                .filter(Recording.segmented_with.is_(None))
            ),
        }
    return {
        "recordings": sum(count for _, count, _ in sources),
        "sources": {
            source: {"recordings": count, "hours": float(hours)} for source, count, hours in sources
        },
        **counts,
        "subtitles": {kind: count for kind, count in subtitles},
        "labelled": {origin: count for origin, count in models},
        "unlabelled": (counts["segments"] or 0) - (labelled or 0),
        "verdicts": [
            {
                "verdict": verdict,
                "label_kind": kind,
                "segments": count,
                "hours": float(total) / 3600,
            }
            for verdict, kind, count, total in verdicts
        ],
        "failures": failures,
    }


def print_status(found: dict[str, Any]) -> None:
    """The status as tables."""
    console.print_table(
        "Recordings",
        ["source", "recordings", "hours"],
        [[name, part["recordings"], part["hours"]] for name, part in found["sources"].items()],
    )
    if found["failures"]:
        reasons = Counter((f["stage"], f["reason"], f["retried"]) for f in found["failures"])
        console.print_table(
            "Not taken (each one with its reason: corpus status --json)",
            ["stage", "reason", "items", "tried again"],
            [
                [stage, reason, count, "yes" if retried else "no"]
                for (stage, reason, retried), count in sorted(reasons.items())
            ],
        )
    if set(found["subtitles"]) - {"none"}:
        console.print_table(
            "Subtitles (of one recording: corpus show ID)",
            ["subtitles", "recordings"],
            [[kind, count] for kind, count in found["subtitles"].items()],
        )
    if found["segments"]:
        console.print_table(
            "Labels",
            ["model", "segments"],
            [*found["labelled"].items(), ("neither a model nor a release", found["unlabelled"])],
        )
    if found["verdicts"]:
        console.print_table(
            "Segments",
            ["verdict", "label", "segments", "hours"],
            [
                [v["verdict"], v["label_kind"] or "none", v["segments"], v["hours"]]
                for v in found["verdicts"]
            ],
        )
    if found["unsegmented"]:
        console.say(f"{found['unsegmented']} recordings wait for `corpus segment`")
