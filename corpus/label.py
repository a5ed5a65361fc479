"""Pseudo-labels: what a Whisper model hears in a segment, with the model's own doubts as scores.

Segments with a human subtitle are labelled too: how far the two agree is the best evidence there
is of whether the subtitle is what was said. Its words are timed in the same pass. Segments of a
release such as Common Voice are left alone where people have validated them.

Segments of many recordings go through the model together, the longest first, so that thousands of
short files keep a device busy; what is next is read while the device works. Every model's
transcripts stand beside those of others, and nobody's are changed.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from corpus import audio, console, engine
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript
from corpus.errors import ItemError, UserError
from corpus.models import Model, note_model
from corpus.segment import find_speech
from corpus.text import base_language
from corpus.whisper import Heard, Whisper, Window, Word
from corpus.workspace import Workspace

READERS = 2
"""Threads that read audio and compute its log-mel while the device works."""


@dataclass(frozen=True)
class Job:
    """A segment to be labelled: a span (ms) of a file, and its subtitle where it has one."""

    segment_id: str
    path: str
    start_ms: int
    end_ms: int
    subtitle_id: int | None = None
    subtitle: str | None = None


@dataclass(frozen=True)
class Labelled:
    """What a model made of a segment; times of words are milliseconds of the recording.

    Attributes:
        words: [start_ms, end_ms, word, probability] of each word heard.
        subtitle_words: the same of the subtitle, where it could be aligned.
    """

    text: str
    words: list[list[Any]]
    scores: dict[str, float]
    subtitle_words: list[list[Any]] | None = None


@dataclass(frozen=True)
class LabelWorker:
    """Labels jobs without a catalogue: it can be sent to another process or machine.

    The model is loaded once in each process, when it is first needed.

    Args:
        path: a CTranslate2 folder.
        language: the language token to force.
        batch_size: windows that go through the model together.
    """

    path: str
    language: str
    device: str = "auto"
    compute_type: str = "default"
    batch_size: int = 16

    def __call__(self, jobs: Sequence[Job]) -> list[Labelled | ItemError]:
        """What the model makes of each job, or why it could not be read.

        Raises:
            UserError: the model cannot be used.
        """
        batches = engine.batches(jobs, self.batch_size)
        return list(chain.from_iterable(results for _, results in self.stream(batches)))

    def stream(
        self, batches: Iterable[list[Job]]
    ) -> Generator[tuple[list[Job], list[Labelled | ItemError]], None, None]:
        """Each batch with its results; the next one is read meanwhile.

        Raises:
            UserError: the model cannot be used.
        """
        whisper = _loaded(self.path, self.language, self.device, self.compute_type)
        ahead: deque[tuple[list[Job], list[Future[Window]]]] = deque()
        with ThreadPoolExecutor(READERS) as readers:
            for batch in batches:
                ahead.append((batch, [readers.submit(read_window, whisper, job) for job in batch]))
                if len(ahead) > 1:
                    yield _listen(whisper, *ahead.popleft())
            while ahead:
                yield _listen(whisper, *ahead.popleft())


@lru_cache(maxsize=1)
def _loaded(path: str, language: str, device: str, compute_type: str) -> Whisper:
    whisper = Whisper(path, language, device=device, compute_type=compute_type)
    if not whisper.can_align:
        console.say(f"warning: {path} names no alignment_heads; no word gets its time")
    return whisper


def read_window(whisper: Whisper, job: Job) -> Window:
    """The audio of a job as the model takes it.

    Where the subtitle says that nobody speaks, the voice activity model is asked too: Whisper
    writes something into silence now and then, and is sure of it.

    Raises:
        ItemError: it cannot be read, or there is none.
    """
    pcm = audio.read_span(Path(job.path), job.start_ms, job.end_ms)
    if not pcm.size:
        raise ItemError(f"{job.segment_id}: lies past the end of its recording")
    seconds = pcm.size / audio.SAMPLE_RATE
    voice = None
    if job.subtitle == "":
        spans = find_speech(pcm)
        voice = sum(span.end_ms - span.start_ms for span in spans) / 1000 / seconds
    return Window(whisper.features(pcm), seconds, job.subtitle, voice)


def _listen(
    whisper: Whisper, jobs: list[Job], windows: Sequence["Future[Window]"]
) -> tuple[list[Job], list[Labelled | ItemError]]:
    results: dict[int, Labelled | ItemError] = {}
    readable: dict[int, Window] = {}
    for i, window in enumerate(windows):
        try:
            readable[i] = window.result()
        except ItemError as error:
            results[i] = error
    if readable:
        try:
            heard = whisper(list(readable.values()))
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            raise UserError(
                f"the device has no memory for {len(readable)} windows at once; give a smaller "
                "--batch-size, or --compute-type int8_float16"
            ) from error
        for (i, window_read), one in zip(readable.items(), heard, strict=True):
            results[i] = _labelled(jobs[i], window_read, one)
    return jobs, [results[i] for i in range(len(jobs))]


def _labelled(job: Job, window: Window, heard: Heard) -> Labelled:
    scores = {"no_speech_prob": heard.no_speech_prob, "language_prob": heard.language_prob}
    if window.voice_share is not None:
        scores["voice_share"] = window.voice_share
    if heard.text:
        scores |= {
            "avg_logprob": heard.avg_logprob,
            "compression_ratio": heard.compression_ratio,
            "fallback": float(heard.fallback),
        }
    given = heard.given_words
    if given:
        scores |= {
            "align_prob_median": float(np.median([word.probability for word in given])),
            "align_start_shift": given[0].start,
            "align_end_shift": given[-1].end - window.seconds,
        }
    return Labelled(
        text=heard.text,
        words=_in_recording(heard.words, job),
        # What batching changes lies far below the fourth place.
        scores={name: round(value, 4) for name, value in scores.items()},
        subtitle_words=_in_recording(given, job) if given else None,
    )


def _in_recording(words: Sequence[Word], job: Job) -> list[list[Any]]:
    return [
        [
            job.start_ms + round(1000 * word.start),
            job.start_ms + round(1000 * word.end),
            word.text,
            round(word.probability, 3),
        ]
        for word in words
    ]


def label_segments(
    workspace: Workspace,
    catalogue: Catalogue,
    model: Model,
    *,
    language_token: str | None = None,
    device: str = "auto",
    compute_type: str = "default",
    batch_size: int = 16,
    releases: bool = False,
    workers: engine.Workers = engine.HERE,
) -> engine.Counts:
    """Add this model's transcript to every segment that lacks it; one commit per batch.

    Args:
        batch_size: windows that go through the model together.
        releases: label the validated segments of releases too.

    Raises:
        UserError: the model cannot be used, or another process is labelling.
    """
    if batch_size < 1:
        raise UserError(f"a batch of {batch_size} windows is none; give 1 or more")
    worker = LabelWorker(
        model.path,
        language_token or base_language(workspace.config.language),
        device,
        compute_type,
        batch_size,
    )
    with workspace.lock("transcripts"):
        waiting = _unlabelled(catalogue, model.origin, workspace.config.language, releases)
        if not waiting:
            return engine.Counts(0, 0)
        note_model(catalogue, model)
        # Elsewhere a worker gets two batches at once: it reads the second while it hears the first.
        size = batch_size if workers == engine.HERE else 2 * batch_size
        jobs = (read_jobs(workspace, catalogue, ids) for ids in engine.batches(waiting, size))
        found = (
            worker.stream(jobs)
            if workers == engine.HERE
            else engine.outcomes(
                jobs,
                worker,
                most=math.ceil(len(waiting) / size),
                workers=workers,
                gpu=device != "cpu",
            )
        )
        return engine.save_batches(
            found,
            partial(save_results, catalogue, model.origin),
            total=len(waiting),
            desc="label",
            unit="segment",
        )


def _unlabelled(catalogue: Catalogue, origin: str, language: str, releases: bool) -> list[str]:
    """Ids of the segments that lack this model's transcript, the longest first.

    Equal lengths make equal work of a batch. What a first run leaves, a second one puts in the
    same order, and so in the same batches.
    """
    # Sets made once: SQLite would answer EXISTS by walking the index of kinds for each segment, and
    # PostgreSQL NOT IN by walking the list of ids, once that is too long for its working memory.
    labelled = select(Transcript.segment_id).filter_by(kind="pseudo", origin=origin)
    released = select(Transcript.segment_id).filter_by(kind="release")
    unvalidated = Recording.licence_evidence["validated"].as_boolean().is_(False)
    segments = (
        select(Segment.id, Recording.language, unvalidated)
        .join(Recording)
        .order_by((Segment.start_ms - Segment.end_ms), Segment.id)
    )
    with catalogue.session() as session:
        done = set(session.scalars(labelled))
        trusted = set() if releases else set(session.scalars(released))
        return [
            item
            for item, code, is_unvalidated in session.execute(segments)
            if item not in done
            and (is_unvalidated or item not in trusted)
            # A video in another language would only be labelled with nonsense.
            and base_language(code) == base_language(language)
        ]


def read_jobs(workspace: Workspace, catalogue: Catalogue, ids: Sequence[str]) -> list[Job]:
    """The jobs of segments, in their order; a segment that is gone has none."""
    with catalogue.session() as session:
        subtitles = {
            row.segment_id: row
            for row in session.scalars(
                select(Transcript)
                .filter(Transcript.segment_id.in_(ids), Transcript.kind == "subtitle")
                .order_by(Transcript.id)
            )
        }
        spans = {
            segment_id: (str(workspace.path(path)), start_ms, end_ms)
            for segment_id, path, start_ms, end_ms in session.execute(
                select(Segment.id, Recording.media_path, Segment.start_ms, Segment.end_ms)
                .join(Recording)
                .filter(Segment.id.in_(ids))
            )
        }
    jobs = []
    for segment_id in ids:
        if segment_id in spans:
            subtitle = subtitles.get(segment_id)
            given = (subtitle.id, subtitle.text) if subtitle else (None, None)
            jobs.append(Job(segment_id, *spans[segment_id], *given))
    return jobs


def save_results(
    catalogue: Catalogue,
    origin: str,
    jobs: Sequence[Job],
    results: Sequence[Labelled | ItemError],
) -> None:
    """Add a batch's transcripts in one transaction, and note its failures.

    A segment that is gone by now, or that another process has labelled, is passed over. Texts of
    others are left as they are; a subtitle only gets the times of its words.
    """
    ids = [job.segment_id for job in jobs]
    with catalogue.session() as session:
        labelled = select(Transcript.segment_id).filter_by(kind="pseudo", origin=origin)
        open_ids = set(
            session.scalars(
                select(Segment.id).filter(
                    Segment.id.in_(ids),
                    Segment.id.not_in(labelled.filter(Transcript.segment_id.in_(ids))),
                )
            )
        )
        for job, result in zip(jobs, results, strict=True):
            if job.segment_id not in open_ids:
                continue
            if isinstance(result, ItemError):
                catalogue.record_failure(
                    session,
                    stage="label",
                    item=job.segment_id,
                    kind="bad_media",
                    message=str(result),
                    transient=True,  # the file may be there and whole next time
                )
                continue
            session.add(
                Transcript(
                    segment_id=job.segment_id,
                    kind="pseudo",
                    origin=origin,
                    text=result.text,
                    words=result.words or None,
                    scores=[Score(name=n, value=v) for n, v in result.scores.items()],
                )
            )
            if job.subtitle_id is not None and result.subtitle_words:
                subtitle = session.get(Transcript, job.subtitle_id)
                if subtitle is not None:
                    subtitle.words = result.subtitle_words
            catalogue.clear_failure(session, stage="label", item=job.segment_id)
