"""Cut recordings into segments of at most 30 s: at cues where there are any, else at pauses.

Where to cut is a shortest-path problem. Every cue end is a possible cut; a segment costs by how
far its length is from the target, a cut costs by how badly it fits the speech (inside a
sentence, without a pause). Dynamic programming finds the cheapest way through, which ends far more
segments at sentence ends than filling greedily does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from corpus import audio, engine
from corpus.catalogue import Catalogue, Recording, Segment, Transcript, segment_id
from corpus.errors import UserError
from corpus.text import clean_transcript
from corpus.workspace import Workspace

MAX_SECONDS = 30.0
"""Whisper's window."""

HARD_GAP_SECONDS = 2.0
"""A pause this long always ends a segment."""

EASY_GAP_SECONDS = 0.5
"""A cut in a pause this long costs nothing for its place."""

PAD_START_SECONDS, PAD_END_SECONDS = 0.1, 0.3
"""Kept around the speech where the pause allows it: last syllables outlast their cue."""

SENTENCE_ENDS = ".!?…。！？؟।॥։።"
CLOSERS = "\"'”’»)]」』"

LENGTH_COST = 10.0
HARD_LENGTH_FACTOR = 0.3
SENTENCE_COST = 6.0
GAP_COST, GAP_COST_UNPUNCTUATED = 3.0, 6.0


@dataclass(frozen=True)
class Span:
    """A stretch of a recording (milliseconds) and the text said in it.

    `after_break` tells that something without a text is heard between it and what is before.
    """

    start_ms: int
    end_ms: int
    text: str = ""
    after_break: bool = False


def merge_cues(
    cues: Sequence[Span], *, duration_ms: int, target_seconds: float
) -> tuple[list[Span], list[Span]]:
    """Join cues into segments near `target_seconds`, never over 30 s.

    Args:
        cues: sorted, not overlapping.
        duration_ms: length of the recording; nothing reaches past it.
        target_seconds: segments cost more the further their length is from this.

    Returns:
        The segments, padded into the pauses around them, and the cues that are left out because
        each alone is longer than a window or lies past the end of the recording.
    """
    longest = round((MAX_SECONDS - PAD_START_SECONDS - PAD_END_SECONDS) * 1000)
    usable: list[Span] = []
    left_out: list[Span] = []
    for cue in cues:
        fits = cue.end_ms - cue.start_ms <= longest and cue.start_ms < duration_ms
        (usable if fits else left_out).append(cue)
    if not usable:
        return [], left_out
    groups = _cheapest_cuts(usable, longest, round(target_seconds * 1000))
    spans = [
        Span(group[0].start_ms, group[-1].end_ms, " ".join(c.text for c in group if c.text))
        for group in groups
    ]
    return _pad(spans, duration_ms), left_out


def _cheapest_cuts(cues: Sequence[Span], longest: int, target: int) -> list[Sequence[Span]]:
    punctuated = sum(_ends_sentence(cue.text) for cue in cues) * 20 >= len(cues)
    gaps = [b.start_ms - a.end_ms for a, b in pairwise(cues)]
    hard = [
        gap > HARD_GAP_SECONDS * 1000 or cue.after_break
        for gap, cue in zip(gaps, cues[1:], strict=True)
    ] + [True]
    cut_costs = [
        0.0 if is_hard else _cut_cost(cue, gap, punctuated)
        for cue, gap, is_hard in zip(cues, [*gaps, 0], hard, strict=True)
    ]
    best = [0.0] + [float("inf")] * len(cues)
    previous = [0] * (len(cues) + 1)
    for end in range(1, len(cues) + 1):
        is_hard = hard[end - 1]
        for start in range(end - 1, -1, -1):
            length = cues[end - 1].end_ms - cues[start].start_ms
            if length > longest or (start < end - 1 and hard[start]):
                break
            deviation = (length - target) / target
            cost = LENGTH_COST * deviation**2
            if is_hard and deviation < 0:
                cost *= HARD_LENGTH_FACTOR  # the pause ends the segment, however short it is
            if best[start] + cost + cut_costs[end - 1] < best[end]:
                best[end] = best[start] + cost + cut_costs[end - 1]
                previous[end] = start
    groups: list[Sequence[Span]] = []
    end = len(cues)
    while end:
        groups.append(cues[previous[end] : end])
        end = previous[end]
    return groups[::-1]


def _cut_cost(cue: Span, gap_ms: int, punctuated: bool) -> float:
    shortness = max(0.0, 1.0 - gap_ms / 1000 / EASY_GAP_SECONDS)
    if not punctuated:
        return GAP_COST_UNPUNCTUATED * shortness
    return SENTENCE_COST * (not _ends_sentence(cue.text)) + GAP_COST * shortness


def _ends_sentence(text: str) -> bool:
    return text.rstrip(CLOSERS + " ").endswith(tuple(SENTENCE_ENDS))


def _pad(spans: Sequence[Span], duration_ms: int) -> list[Span]:
    """Widen each span into half of the pause beside it, up to the padding."""
    padded = []
    for index, span in enumerate(spans):
        before = span.start_ms - (spans[index - 1].end_ms if index else 0)
        limit = spans[index + 1].start_ms if index + 1 < len(spans) else duration_ms
        after = limit - span.end_ms
        start = span.start_ms - max(0, min(before // 2, round(PAD_START_SECONDS * 1000)))
        end = span.end_ms + max(0, min(after // 2, round(PAD_END_SECONDS * 1000)))
        padded.append(Span(start, min(end, duration_ms), span.text))
    return padded


def find_speech(pcm: audio.Pcm) -> list[Span]:
    """Stretches of speech in int16 PCM [samples] at 16 kHz, by the Silero voice activity model."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        max_speech_duration_s=MAX_SECONDS - 1.0, min_silence_duration_ms=200, speech_pad_ms=30
    )
    samples = pcm.astype(np.float32) / 32768.0
    found = get_speech_timestamps(samples, options, sampling_rate=audio.SAMPLE_RATE)
    per_ms = audio.SAMPLE_RATE // 1000
    return [Span(piece["start"] // per_ms, piece["end"] // per_ms) for piece in found]


@dataclass(frozen=True)
class _Uncut:
    """A recording that is to be cut, with all that this needs."""

    id: str
    media: Path
    duration_ms: int
    cues: list[Span]


@dataclass(frozen=True)
class _Cut:
    segmenter: str
    spans: list[Span]
    left_out: list[Span]


def segment_recordings(
    workspace: Workspace,
    catalogue: Catalogue,
    *,
    target_seconds: float,
    workers: engine.Workers = engine.HERE,
) -> engine.Counts:
    """Cut every recording that has no segments yet; one commit per recording.

    Raises:
        UserError: the target is no length of a segment, or another process is cutting.
    """
    if not 1 <= target_seconds <= MAX_SECONDS:
        raise UserError(f"target_seconds is {target_seconds}; give 1 to {MAX_SECONDS:.0f}")
    with workspace.lock("segments"):
        return _segment_recordings(workspace, catalogue, target_seconds, workers)


def _segment_recordings(
    workspace: Workspace, catalogue: Catalogue, target_seconds: float, workers: engine.Workers
) -> engine.Counts:
    with catalogue.session() as session:
        waiting = session.scalars(
            select(Recording.id).filter(Recording.segmented_with.is_(None)).order_by(Recording.id)
        ).all()

    def save(uncut: _Uncut, result: _Cut) -> None:
        with catalogue.session() as session:
            recording = session.get_one(Recording, uncut.id)
            recording.segmented_with = result.segmenter
            session.add_all(_rows(recording, result.spans))
            catalogue.clear_failure(session, stage="segment", item=uncut.id)
            if result.left_out:
                catalogue.record_failure(
                    session,
                    stage="segment",
                    item=uncut.id,
                    kind="cues_left_out",
                    message=f"{len(result.left_out)} cues are longer than {MAX_SECONDS:.0f} s "
                    "or lie past the end of the audio",
                    transient=False,
                )

    note = catalogue.failure_noter("segment")
    return engine.run(
        _uncut(workspace, catalogue, waiting),
        partial(_cut, target_seconds=target_seconds),
        save,
        lambda uncut, error: note(uncut.id, error),
        total=len(waiting),
        desc="segment",
        unit="recording",
        workers=workers,
    )


def _uncut(workspace: Workspace, catalogue: Catalogue, ids: Sequence[str]) -> Iterator[_Uncut]:
    for recording_id in ids:
        with catalogue.session() as session:
            recording = session.get_one(Recording, recording_id)
            cues = [Span(c.start_ms, c.end_ms, c.text, c.after_break) for c in recording.cues]
        media = workspace.path(recording.media_path)
        yield _Uncut(recording.id, media, recording.duration_ms, cues)


def _cut(recording: _Uncut, target_seconds: float) -> _Cut:
    segmenter, cues = "cues", recording.cues
    if not cues:
        segmenter = "voice-activity"
        cues = find_speech(audio.read_span(recording.media, 0, recording.duration_ms))
    spans, left_out = merge_cues(
        cues, duration_ms=recording.duration_ms, target_seconds=target_seconds
    )
    return _Cut(segmenter, spans, left_out)


def _rows(recording: Recording, spans: Sequence[Span]) -> Iterator[Any]:
    for span in spans:
        segment = Segment(
            id=segment_id(recording.id, span.start_ms, span.end_ms),
            recording_id=recording.id,
            start_ms=span.start_ms,
            end_ms=span.end_ms,
        )
        text = clean_transcript(span.text)
        if text:
            origin = recording.subtitle_path or "subtitle"
            segment.transcripts.append(Transcript(kind="subtitle", origin=origin, text=text))
        yield segment
