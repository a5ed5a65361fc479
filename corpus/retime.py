"""Set subtitles against what a model heard: tracks that are late, bounds that cut words, long cues.

Once a model has heard the segments of a subtitled recording, it is looked at as a whole:

- A track that is out of time (late, early, or of another frame rate) is put in time, and the
  recording is cut anew; labelling then goes on with the new segments. What was changed stands in
  `Recording.timing`; the subtitle file itself stays as it is.
- In a track that is in time, segments whose first or last words are heard beyond their bounds are
  given the bounds of their words. They keep their ids, which name the bounds that they were cut
  with, and are heard once more.
- The text of a cue longer than a segment is shared among the segments in which it is spoken.

Where a person has decided on a segment, that segment is never touched, and its recording never cut
anew. Each recording is one commit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from corpus import engine
from corpus.align import Stretch, Timing, Word, fit_timing, repair_bounds, share_text
from corpus.catalogue import Catalogue, Recording, Segment, Transcript
from corpus.segment import Cut, Span, cue_spans, cut, is_long, note_left_out, store
from corpus.text import base_language, clean_transcript
from corpus.workspace import Workspace

MAX_CUTS = 2
"""How often one model may have a recording cut anew; the second time with all words heard."""


@dataclass(frozen=True)
class _Found:
    """What is to be done to one recording; times in milliseconds."""

    timing: dict[str, Any]
    problem: str | None = None
    """Why it stays out of time."""
    fit: Timing | None = None
    """How the cues move, where the recording is cut anew."""
    anew: Cut | None = None
    bounds: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of the segments that move, by id."""
    shares: dict[str, str] = field(default_factory=dict)
    """Texts of the segments inside long cues, by id."""
    long_cues_left: int = 0


def label_in_time(
    workspace: Workspace, catalogue: Catalogue, origin: str, label: Callable[[], engine.Counts]
) -> engine.Counts:
    """Label and retime in turn until every subtitled recording is settled with this model.

    Args:
        origin: the model, as transcripts name it.
        label: adds this model's transcript to every segment that lacks it.

    Returns:
        How many segments were labelled, and how many failed at last.

    Raises:
        UserError: another process is cutting or labelling.
    """
    counts = label()
    while retime_recordings(workspace, catalogue, origin).done:
        more = label()
        counts = engine.Counts(counts.done + more.done, more.failed)
    return counts


def retime_recordings(workspace: Workspace, catalogue: Catalogue, origin: str) -> engine.Counts:
    """Look at every subtitled recording that this model has newly heard; one commit for each.

    Afterwards some segments may have no transcript of this model any more, or be new. A recording
    that was cut anew is looked at again when those are labelled: `MAX_CUTS` + 1 times at most.

    Args:
        origin: the model, as transcripts name it.

    Raises:
        UserError: another process is cutting or labelling.
    """
    with workspace.lock("segments"), workspace.lock("transcripts"):
        waiting = _waiting(catalogue, origin, workspace.config.language)

        def work(recording_id: str) -> _Found:
            return _look(workspace, catalogue, recording_id, origin)

        def save(recording_id: str, found: _Found) -> None:
            with catalogue.session() as session:
                _apply(catalogue, session, recording_id, found)

        return engine.run(
            waiting,
            work,
            save,
            catalogue.failure_noter("retime"),
            desc="retime",
            unit="recording",
        )


def _waiting(catalogue: Catalogue, origin: str, language: str) -> list[str]:
    """Recordings cut at cues that this model has heard and that are not settled with it."""
    with catalogue.session() as session:
        heard = set(
            session.scalars(
                select(Segment.recording_id)
                .join(Segment.transcripts)
                .filter(Transcript.kind == "pseudo", Transcript.origin == origin)
                .distinct()
            )
        )
        rows = session.execute(
            select(Recording.id, Recording.language, Recording.timing)
            .filter(Recording.segmented_with == "cues")
            .order_by(Recording.id)
        )
        return [
            item
            for item, code, timing in rows
            if item in heard
            and base_language(code) == base_language(language)
            and not (timing and timing["model"] == origin and timing["settled"])
        ]


def _look(workspace: Workspace, catalogue: Catalogue, recording_id: str, origin: str) -> _Found:
    with catalogue.session() as session:
        recording = session.scalars(
            select(Recording)
            .filter_by(id=recording_id)
            .options(
                selectinload(Recording.cues),
                selectinload(Recording.segments).selectinload(Segment.transcripts),
                selectinload(Recording.segments).selectinload(Segment.decisions),
            )
        ).one()
    cues = cue_spans(recording.cues)
    heard = {segment.id: _heard(segment, origin) for segment in recording.segments}
    words = sorted(word for found in heard.values() for word in found)
    fit = fit_timing(cues, words)
    timing = _timing(recording.timing, fit, origin)
    if fit is None:  # too little is recognised to know where anything is
        return _Found(timing, long_cues_left=sum(map(is_long, cues)))
    if not fit.moves(cues) or timing["cuts"] == MAX_CUTS:
        return _settle(recording, cues, heard, words, timing)
    if any(_is_decided(segment) for segment in recording.segments):
        shift = (fit(cues[0].start_ms) - cues[0].start_ms) / 1000
        problem = (
            f"its subtitles are out of time, by {-shift:+.1f} s at their beginning; it stays as it "
            "is, since some of its segments are reviewed"
        )
        return _Found(timing, problem)
    anew = cut(
        workspace.path(recording.media_path),
        [replace(cue, start_ms=fit(cue.start_ms), end_ms=fit(cue.end_ms)) for cue in cues],
        duration_ms=recording.duration_ms,
        target_seconds=workspace.config.segment.target_seconds,
    )
    return _Found(_moved(timing, fit), fit=fit, anew=anew)


def _heard(segment: Segment, origin: str) -> list[Word]:
    """What the model heard in a segment, its newest hearing."""
    words: list[list[Any]] = []
    for transcript in segment.transcripts:
        if transcript.kind == "pseudo" and transcript.origin == origin:
            words = transcript.words or []
    return [Word(*word) for word in words]


def _timing(before: dict[str, Any] | None, fit: Timing | None, origin: str) -> dict[str, Any]:
    """`Recording.timing` of a track that stays where it is.

    A cue now stands at `scale` · the file's time + `offset_ms`. `cuts` counts how often this model
    has had the recording cut anew; not `settled` means that it is to be looked at again.
    """
    before = before or {"offset_ms": 0.0, "scale": 1.0, "applied": False, "cuts": 0, "model": None}
    return {
        "offset_ms": before["offset_ms"],
        "scale": before["scale"],
        "applied": before["applied"],
        "anchors": fit.anchors if fit else 0,
        "residual_ms": round(fit.residual_ms) if fit else None,
        "model": origin,
        "cuts": before["cuts"] if before["model"] == origin else 0,
        "settled": True,
    }


def _moved(timing: dict[str, Any], fit: Timing) -> dict[str, Any]:
    """`timing` after the cues were moved once more."""
    return {
        **timing,
        "offset_ms": fit.scale * timing["offset_ms"] + fit.offset_ms,
        "scale": fit.scale * timing["scale"],
        "applied": True,
        "cuts": timing["cuts"] + 1,
        "settled": False,
    }


def _is_decided(segment: Segment) -> bool:
    given = any(transcript.kind in {"release", "review"} for transcript in segment.transcripts)
    return given or bool(segment.decisions)


def _settle(
    recording: Recording,
    cues: Sequence[Span],
    heard: Mapping[str, Sequence[Word]],
    words: Sequence[Word],
    timing: dict[str, Any],
) -> _Found:
    """Bounds and shares of the segments of a recording whose cues stay."""
    segments = recording.segments
    bounds = repair_bounds(
        [_stretch(segment) for segment in segments], words, duration_ms=recording.duration_ms
    )
    shares: dict[str, str] = {}
    left = 0
    for cue in filter(is_long, cues):
        inside = [
            s for s in segments if 2 * cue.start_ms <= s.start_ms + s.end_ms <= 2 * cue.end_ms
        ]
        texts = share_text(cue.text, [heard[segment.id] for segment in inside])
        found = {s.id: text for s, text in zip(inside, texts, strict=True) if text}
        left += not found
        shares |= {
            s.id: found[s.id]
            for s in inside
            if s.id in found and _subtitle(s) is None and not _is_decided(s)
        }
    return _Found(
        timing,
        bounds={
            segment.id: new
            for segment, new in zip(segments, bounds, strict=True)
            if new != (segment.start_ms, segment.end_ms)
        },
        shares=shares,
        long_cues_left=left,
    )


def _stretch(segment: Segment) -> Stretch:
    subtitle = _subtitle(segment)
    words = subtitle.words if subtitle and subtitle.words else []
    return Stretch(
        segment.start_ms,
        segment.end_ms,
        subtitle.text if subtitle else "",
        [Word(*word) for word in words],
        fixed=_is_decided(segment),
    )


def _subtitle(segment: Segment) -> Transcript | None:
    return next((t for t in reversed(segment.transcripts) if t.kind == "subtitle"), None)


def _apply(catalogue: Catalogue, session: Session, recording_id: str, found: _Found) -> None:
    recording = session.get(Recording, recording_id)
    if recording is None:
        return  # removed in the meantime
    if any(_is_decided(s) for s in recording.segments if found.anew or s.id in found.bounds):
        return  # decided in the meantime: the next run looks again
    recording.timing = found.timing
    catalogue.clear_failure(session, stage="retime", item=recording_id)
    if found.problem:
        catalogue.record_failure(
            session,
            stage="retime",
            item=recording_id,
            kind="out_of_time",
            message=found.problem,
            transient=False,
        )
    if found.anew and found.fit:
        _cut_anew(catalogue, session, recording, found.anew, found.fit)
    elif not found.problem:
        _change_segments(recording, found)
        past_end = sum(cue.start_ms >= recording.duration_ms for cue in recording.cues)
        note_left_out(catalogue, session, recording_id, found.long_cues_left, past_end)


def _cut_anew(
    catalogue: Catalogue, session: Session, recording: Recording, anew: Cut, fit: Timing
) -> None:
    for segment in recording.segments:
        catalogue.clear_failure(session, stage="label", item=segment.id)
    recording.segments.clear()
    session.flush()  # a new segment may have the bounds, and so the id, of an old one
    for cue in recording.cues:
        cue.start_ms, cue.end_ms = fit(cue.start_ms), fit(cue.end_ms)
    store(catalogue, session, recording, anew)


def _change_segments(recording: Recording, found: _Found) -> None:
    origin = recording.subtitle_path or "subtitle"
    for segment in recording.segments:
        if segment.id in found.shares:
            text = clean_transcript(found.shares[segment.id])
            segment.transcripts.append(Transcript(kind="subtitle", origin=origin, text=text))
        if segment.id in found.bounds:
            segment.start_ms, segment.end_ms = found.bounds[segment.id]
            # What was heard in other bounds is no evidence any more; it is heard once more.
            heard = [t for t in segment.transcripts if t.kind == "pseudo"]
            for transcript in heard:
                segment.transcripts.remove(transcript)
