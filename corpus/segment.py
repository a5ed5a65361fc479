"""Cut recordings into segments of at most 30 s: at cues where there are any, else at pauses.

A cue that is itself longer is cut at pauses too; its text is shared among the pieces once a model
has heard where its words are. And some of the pauses between cues become segments in which nothing
is said: a model that is never shown one invents words there.

Where to cut is a shortest-path problem. Every cue end is a possible cut; a segment costs by how
far its length is from the target, a cut costs by how badly it fits the speech (inside a
sentence, without a pause). Dynamic programming finds the cheapest way through, which ends far more
segments at sentence ends than filling greedily does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from corpus import audio, engine
from corpus.catalogue import Catalogue, Cue, Recording, Segment, Transcript, segment_id
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

LONGEST_MS = round((MAX_SECONDS - PAD_START_SECONDS - PAD_END_SECONDS) * 1000)
"""Of the speech in a segment."""

QUIET_SHARE = 0.01
"""Of a recording that is subtitled, taken as segments in which nothing is said."""

QUIET_SECONDS = 2.0
"""Such a segment is at least so long, and so far from the cues around it."""

VOICE_PROBABILITY, DOUBTFUL_VOICE_PROBABILITY = 0.5, 0.2
"""From which a 32 ms frame is taken for speech; from which it may be speech."""

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


def is_long(cue: Span) -> bool:
    """Whether a cue alone is longer than a segment may be."""
    return cue.end_ms - cue.start_ms > LONGEST_MS


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
    usable: list[Span] = []
    left_out: list[Span] = []
    for cue in cues:
        fits = not is_long(cue) and cue.start_ms < duration_ms
        (usable if fits else left_out).append(cue)
    if not usable:
        return [], left_out
    groups = _cheapest_cuts(usable, LONGEST_MS, round(target_seconds * 1000))
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


def find_speech(pcm: audio.Pcm, *, threshold: float = VOICE_PROBABILITY) -> list[Span]:
    """Stretches of speech in int16 PCM [samples] at 16 kHz, by the Silero voice activity model."""
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        threshold=threshold,
        max_speech_duration_s=MAX_SECONDS - 1.0,
        min_silence_duration_ms=200,
        speech_pad_ms=30,
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
class Cut:
    """What a recording is cut into: all of it in order, nothing overlapping.

    In `quiet` nothing is said. `long_cues` are longer than a segment: what is said in them is among
    the `spans`, still without text. `past_end` lie where there is no audio.
    """

    spans: list[Span]
    quiet: list[Span]
    long_cues: list[Span]
    past_end: list[Span]


def cut(media: Path, cues: Sequence[Span], *, duration_ms: int, target_seconds: float) -> Cut:
    """Cut a recording at its cues (in order, not overlapping), or at its pauses if it has none.

    Raises:
        MediaError: the file is missing or is no audio.
    """
    if not cues:
        return Cut(_cut_at_pauses(media, 0, duration_ms, target_seconds), [], [], [])
    # A track that was put in time may begin before the recording does.
    cues = [replace(cue, start_ms=max(0, cue.start_ms)) for cue in cues if cue.end_ms > 0]
    spans, left_out = merge_cues(cues, duration_ms=duration_ms, target_seconds=target_seconds)
    past_end = [cue for cue in left_out if cue.start_ms >= duration_ms]
    long_cues = [cue for cue in left_out if cue.start_ms < duration_ms]
    for cue in long_cues:
        end = min(cue.end_ms, duration_ms)
        spans += _cut_at_pauses(media, cue.start_ms, end, target_seconds)
    quiet = find_quiet(media, cues, duration_ms)
    return Cut(_without_overlaps(spans), quiet, long_cues, past_end)


def _cut_at_pauses(media: Path, start_ms: int, end_ms: int, target_seconds: float) -> list[Span]:
    speech = find_speech(audio.read_span(media, start_ms, end_ms))
    spans, _ = merge_cues(speech, duration_ms=end_ms - start_ms, target_seconds=target_seconds)
    return [Span(start_ms + span.start_ms, start_ms + span.end_ms) for span in spans]


def _without_overlaps(spans: Sequence[Span]) -> list[Span]:
    """Spans in order; a pad that reaches into the speech of a long cue beside it ends there."""
    apart: list[Span] = []
    for span in sorted(spans, key=lambda span: span.start_ms + span.end_ms):
        if apart and apart[-1].end_ms > span.start_ms:
            if span.text:
                span = replace(span, start_ms=apart[-1].end_ms)
            else:
                apart[-1] = replace(apart[-1], end_ms=span.start_ms)
        apart.append(span)
    return apart


def find_quiet(media: Path, cues: Sequence[Span], duration_ms: int) -> list[Span]:
    """Stretches in which nothing is said, `QUIET_SHARE` of a recording in all.

    They lie in the middle of the longest pauses between cues, where the voice activity model finds
    nothing either. A pause is passed over if music or a sound was noted in it: there may be singing
    or laughter.

    Raises:
        MediaError: the file is missing or is no audio.
    """
    margin = round(QUIET_SECONDS * 1000)
    pauses = [
        (before.end_ms + margin, after.start_ms - margin)
        for before, after in pairwise(cues)
        if not after.after_break and after.start_ms < duration_ms
    ]
    wanted = round(duration_ms * QUIET_SHARE)
    quiet: list[Span] = []
    for start, end in sorted(pauses, key=lambda pause: pause[0] - pause[1]):
        length = min(end - start, wanted, round(MAX_SECONDS * 1000))
        if length < margin:
            break
        start += (end - start - length) // 2
        pcm = audio.read_span(media, start, start + length)
        if not find_speech(pcm, threshold=DOUBTFUL_VOICE_PROBABILITY):
            quiet.append(Span(start, start + length))
            wanted -= length
    return sorted(quiet, key=lambda span: span.start_ms)


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

    def save(uncut: _Uncut, result: Cut) -> None:
        with catalogue.session() as session:
            if recording := session.get(Recording, uncut.id):  # else removed in the meantime
                store(catalogue, session, recording, result)

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
            recording = session.get(Recording, recording_id)
            if recording is None:  # removed in the meantime
                continue
            cues = cue_spans(recording.cues)
        media = workspace.path(recording.media_path)
        yield _Uncut(recording.id, media, recording.duration_ms, cues)


def _cut(recording: _Uncut, target_seconds: float) -> Cut:
    length = recording.duration_ms
    return cut(recording.media, recording.cues, duration_ms=length, target_seconds=target_seconds)


def cue_spans(cues: Sequence[Cue]) -> list[Span]:
    """A recording's cues as they are cut."""
    return [Span(cue.start_ms, cue.end_ms, cue.text, cue.after_break) for cue in cues]


def store(catalogue: Catalogue, session: Session, recording: Recording, result: Cut) -> None:
    """Add the segments of a recording, and note what of its subtitles has no place yet."""
    recording.segmented_with = "cues" if recording.cues else "voice-activity"
    origin = recording.subtitle_path or "subtitle"
    for span in result.spans:
        text = clean_transcript(span.text)
        _add(session, recording, span, origin, text or None)
    for span in result.quiet:
        _add(session, recording, span, origin, "")
    note_left_out(catalogue, session, recording.id, len(result.long_cues), len(result.past_end))


def note_left_out(
    catalogue: Catalogue, session: Session, recording_id: str, without_text: int, past_end: int
) -> None:
    """Note how many cues of a recording have found no segment, and why; or that all have."""
    problems = []
    if without_text:
        problems.append(
            f"{without_text} cues are longer than {MAX_SECONDS:.0f} s: their text waits until "
            "`corpus label` has heard which segment says what of it"
        )
    if past_end:
        problems.append(f"{past_end} cues lie past the end of the audio")
    catalogue.clear_failure(session, stage="segment", item=recording_id)
    if problems:
        catalogue.record_failure(
            session,
            stage="segment",
            item=recording_id,
            kind="cues_left_out",
            message="; ".join(problems),
            transient=False,
        )


def _add(session: Session, recording: Recording, span: Span, origin: str, text: str | None) -> None:
    segment = Segment(
        id=segment_id(recording.id, span.start_ms, span.end_ms),
        recording_id=recording.id,
        start_ms=span.start_ms,
        end_ms=span.end_ms,
    )
    if text is not None:
        segment.transcripts.append(Transcript(kind="subtitle", origin=origin, text=text))
    session.add(segment)
