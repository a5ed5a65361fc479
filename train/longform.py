"""Whole recordings by faster-whisper's sequential decoding, as people transcribe a talk.

It moves its window by the timestamps that the model writes and gives it the text before, so it
tells what short rows cannot: speech that a model skips at the window's borders, loops that run on,
languages that change. A dataset holds the segments of a recording and no more, so they are laid
out in their order with the pauses between them, those of dropped speech shortened.
"""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from corpus import audio
from corpus.cuda import open_cublas
from corpus.errors import UserError
from train import model as models
from train.export import ct2
from train.metrics import Timed
from train.predict import Decoding, Prediction, describe_row

LONGEST_PAUSE_MS = 2_000
"""What lies between two segments may be speech that was dropped, which nobody can transcribe."""

PCM_SCALE = 32768.0


class Recording:
    """The rows of one recording in their order.

    Attributes:
        places: of its rows in the split.
        starts_ms: where each row begins when they are laid out.
    """

    def __init__(self, spans: list[tuple[int, int, int]]) -> None:
        """Of the start and end in the recording (milliseconds) and the place of each row."""
        spans = sorted(spans)
        self.places = [place for _, _, place in spans]
        self.starts_ms = [0]
        for (start, end, _), (following, _, _) in pairwise(spans):
            pause = min(max(0, following - end), LONGEST_PAUSE_MS)
            self.starts_ms.append(self.starts_ms[-1] + end - start + pause)


def find_recordings(rows: Any) -> dict[str, Recording]:
    """The recordings of a split whose rows tell where they lie in them.

    Rows of several segments, or without a place, are in none.
    """
    spans: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for place, segments in enumerate(rows["segments"]):
        if len(segments) != 1:
            continue
        recording, _, span = segments[0]["segment_id"].rpartition("@")
        start, _, end = span.partition("-")
        if recording and start.isdecimal() and end.isdecimal():
            spans[recording].append((int(start), int(end), place))
    return {name: Recording(found) for name, found in spans.items()}


def transcribe_recordings(
    whisper: models.Whisper,
    material: Mapping[str, Any],
    how: Decoding,
    language_token: str | None,
) -> tuple[Iterator[Prediction], int]:
    """Transcribe the recordings of datasets, with faster-whisper's own settings.

    Args:
        material: the rows of each dataset by its name.

    Returns:
        the predictions as they are made, and their number.

    Raises:
        UserError: no dataset tells of which recordings its rows are.
    """
    found = {name: find_recordings(rows) for name, rows in material.items()}
    total = sum(map(len, found.values()))
    if not total:
        raise UserError("the rows do not tell of which recordings they are; leave out --long-form")

    def work() -> Iterator[Prediction]:
        from faster_whisper import WhisperModel

        open_cublas()
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "ct2"
            ct2.write(whisper, folder)
            model = WhisperModel(str(folder), local_files_only=True)
            for name, recordings in found.items():
                for title, recording in recordings.items():
                    rows = [material[name][place] for place in recording.places]
                    code = whisper.vocabulary.language_code(rows[0]["language"], language_token)
                    yield _transcribe(
                        model, name, title, recording, rows, None if how.detect_language else code
                    )

    return work(), total


def _transcribe(
    model: Any,
    dataset: str,
    title: str,
    recording: Recording,
    rows: list[Mapping[str, Any]],
    language: str | None,
) -> Prediction:
    described = [describe_row(row, dataset) for row in rows]
    starts = [ms / 1000 for ms in recording.starts_ms]
    sounds = [audio.decode(row["audio"]["bytes"]) for row in rows]
    pcm = np.zeros(round(starts[-1] * audio.SAMPLE_RATE) + sounds[-1].size, np.float32)
    for start, sound in zip(starts, sounds, strict=True):
        at = round(start * audio.SAMPLE_RATE)
        # A row is padded to the timestamps' grid and may reach into the next.
        pcm[at : at + sound.size] = sound[: pcm.size - at] / PCM_SCALE
    segments, info = model.transcribe(pcm, language=language)
    heard = list(segments)
    speakers = {one["speaker"] for one in described}
    return Prediction(
        id=title,
        dataset=dataset,
        source=described[0]["source"],
        language=described[0]["language"],
        speaker=speakers.pop() if len(speakers) == 1 else None,
        recording=title,
        duration=pcm.size / audio.SAMPLE_RATE,
        reference=" ".join(one["reference"] for one in described if one["reference"]),
        hypothesis=" ".join(segment.text.strip() for segment in heard).strip(),
        spans=tuple(Timed(segment.start, segment.end) for segment in heard),
        reference_spans=tuple(
            Timed(start + span.start, start + span.end)
            for start, one in zip(starts, described, strict=True)
            for span in one["reference_spans"]
        ),
        detected=info.language if language is None else None,
    )
