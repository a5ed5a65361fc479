"""A row of a dataset: its columns, and how segments become one."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pyarrow as pa

from corpus.audio import SAMPLE_RATE, Pcm, encode_flac
from corpus.pack import STEPS_PER_SECOND, WINDOW_SECONDS
from corpus.pieces import faded

GRID_SAMPLES = SAMPLE_RATE // STEPS_PER_SECOND  # samples in one 0.02 s step
ROW_GROUP_ROWS = 25  # held at a time, in several forms: of 30 s windows 17 MB at most


class Audio(TypedDict):
    """A whole FLAC file, 16 kHz mono, and the name it would have."""

    bytes: bytes
    path: str


class RowSegment(TypedDict):
    """A segment in a row; `start` and `end` in seconds of the row's audio, on the 0.02 s grid."""

    start: float
    end: float
    text: str
    speaker: str | None
    source: str
    segment_id: str


class Row(TypedDict):
    """One training window, or one segment of dev or test.

    `duration` is the length of the audio in seconds, `speech_seconds` the same without the
    padding between segments. `previous_text` is what was truly said just before in the same
    recording, or None.
    """

    id: str
    audio: Audio
    text: str
    segments: list[RowSegment]
    previous_text: str | None
    language: str
    duration: float
    speech_seconds: float
    licences: list[str]
    redistributable: bool
    label_kinds: list[str]


_TEXT = {"dtype": "string", "_type": "Value"}
_SECONDS = {"dtype": "float64", "_type": "Value"}
_FEATURES = {
    "id": _TEXT,
    "audio": {"sampling_rate": SAMPLE_RATE, "_type": "Audio"},
    "text": _TEXT,
    "segments": {
        "feature": {
            "start": _SECONDS,
            "end": _SECONDS,
            "text": _TEXT,
            "speaker": _TEXT,
            "source": _TEXT,
            "segment_id": _TEXT,
        },
        "_type": "List",
    },
    "previous_text": _TEXT,
    "language": _TEXT,
    "duration": _SECONDS,
    "speech_seconds": _SECONDS,
    "licences": {"feature": _TEXT, "_type": "List"},
    "redistributable": {"dtype": "bool", "_type": "Value"},
    "label_kinds": {"feature": _TEXT, "_type": "List"},
}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.string()),
        (
            "segments",
            pa.list_(
                pa.struct(
                    [
                        ("start", pa.float64()),
                        ("end", pa.float64()),
                        ("text", pa.string()),
                        ("speaker", pa.string()),
                        ("source", pa.string()),
                        ("segment_id", pa.string()),
                    ]
                )
            ),
        ),
        ("previous_text", pa.string()),
        ("language", pa.string()),
        ("duration", pa.float64()),
        ("speech_seconds", pa.float64()),
        ("licences", pa.list_(pa.string())),
        ("redistributable", pa.bool_()),
        ("label_kinds", pa.list_(pa.string())),
    ],
    # Where `datasets` looks for the types that Arrow does not have.
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


@dataclass(frozen=True)
class LabelledSegment:
    """A segment as it goes into a row.

    Attributes:
        pcm: int16 [samples] at 16 kHz.
        text: the transcript to train on.
        speaker: who speaks, where it is known.
        source: where the recording comes from.
        segment_id: the segment's id in the catalogue.
        licence: SPDX id of the recording's licence.
        label_kind: where the transcript comes from: subtitle, pseudo, review or release.
        redistributable: whether the audio may be given to others.
        cut_before: whether its recording goes on before it, so that it begins in mid-sound.
        cut_after: whether its recording goes on after it.
        pause_samples: at the end of `pcm`, not in the segment: a pause before the next one.
    """

    pcm: Pcm
    text: str
    speaker: str | None
    source: str
    segment_id: str
    licence: str
    label_kind: str
    redistributable: bool
    cut_before: bool = True
    cut_after: bool = True
    pause_samples: int = 0


def window_row(
    row_id: str,
    segments: Sequence[LabelledSegment],
    *,
    language: str,
    previous_text: str | None = None,
) -> Row:
    """Lay segments end to end into one row.

    Each segment is padded with zeros to the 0.02 s grid, so that its start and end are exactly
    what a timestamp token can say. At a joint the side that is cut out of a longer recording is
    faded over 5 ms; whole clips and the row's own beginning and end stay as they are.

    Raises:
        ValueError: there is no segment, or together they are longer than 30 s.
    """
    if not segments:
        raise ValueError(f"{row_id}: a row needs at least one segment")
    parts: list[Pcm] = []
    labels: list[RowSegment] = []
    samples = 0
    for index, segment in enumerate(segments):
        pcm = faded(
            segment.pcm,
            into=segment.cut_before and index > 0,
            out=segment.cut_after and index < len(segments) - 1,
        )
        parts.append(np.pad(pcm, (0, -pcm.size % GRID_SAMPLES)))
        labels.append(
            RowSegment(
                start=samples / SAMPLE_RATE,
                end=(samples + parts[-1].size - segment.pause_samples) / SAMPLE_RATE,
                text=segment.text,
                speaker=segment.speaker,
                source=segment.source,
                segment_id=segment.segment_id,
            )
        )
        samples += parts[-1].size
    if samples > WINDOW_SECONDS * SAMPLE_RATE:
        raise ValueError(f"{row_id}: {samples / SAMPLE_RATE:.2f} s are more than a window holds")
    return Row(
        id=row_id,
        audio=Audio(bytes=encode_flac(np.concatenate(parts)), path=f"{row_id}.flac"),
        text=" ".join(segment.text for segment in segments),
        segments=labels,
        previous_text=previous_text,
        language=language,
        duration=samples / SAMPLE_RATE,
        speech_seconds=sum(s.pcm.size - s.pause_samples for s in segments) / SAMPLE_RATE,
        licences=sorted({segment.licence for segment in segments}),
        redistributable=all(segment.redistributable for segment in segments),
        label_kinds=sorted({segment.label_kind for segment in segments}),
    )
