"""A made-up catalogue to review: recordings of ten minutes, cut into segments, with their sound."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from benchmarks._common import insert_rows
from corpus import audio
from corpus.catalogue import (
    Catalogue,
    Decision,
    Recording,
    Score,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.workspace import Workspace

SEGMENT_MS = 10_000
SEGMENTS_EACH = 60  # in a recording
FILES = 8  # of sound; recordings share them
CHANNELS = 100
WORDS = (
    "call room number five mother saw seven red boats please river plain delta grain hill water "
    "winter bread letter window carry below above slowly market north station light paper stone"
)


def write_media(workspace: Workspace) -> None:
    """Noise that swells like speech, so that its FLAC is about as large as that of speech."""
    draw = np.random.default_rng(0)
    times = np.arange(SEGMENTS_EACH * SEGMENT_MS * audio.SAMPLE_RATE // 1000) / audio.SAMPLE_RATE
    (workspace.media / "made").mkdir(parents=True, exist_ok=True)
    for number in range(FILES):
        swelling = np.abs(np.sin(times * (9 + number / 10)) * np.sin(times * 1.3))
        sound = swelling * (np.sin(2 * np.pi * 180 * times) + draw.normal(0, 0.1, times.size))
        flac = audio.encode_flac((9000 * sound).astype(np.int16))
        (workspace.media / "made" / f"{number}.flac").write_bytes(flac)


def fill(catalogue: Catalogue, segments: int, decisions: int = 0) -> None:
    """Write made-up rows, thousands in a statement; the first `decisions` segments are decided."""
    rows = list(_segments(segments, decisions))
    recordings = -(-segments // SEGMENTS_EACH)
    insert_rows(
        catalogue,
        {
            Recording: [_recording(number) for number in range(recordings)],
            Segment: [row["segment"] for row in rows],
            Transcript: [made for row in rows for made in row["transcripts"]],
            Score: [score for row in rows for score in row["scores"]],
            Verdict: [row["verdict"] for row in rows],
            Decision: [row["decision"] for row in rows if "decision" in row],
        },
    )


def _recording(number: int) -> dict[str, Any]:
    channel = number % CHANNELS
    return {
        "id": f"youtube:{number:011}",
        "source": "youtube" if number % 3 else "files",
        "title": f"Talk {number}",
        "channel_id": f"UC{channel}",
        "channel": f"Channel {channel}",
        "language": "en",
        "licence": "CC-BY-3.0",
        "licence_evidence": {},
        "attribution": f"Talk {number}",
        "redistributable": True,
        "media_path": f"media/made/{number % FILES}.flac",
        "duration_ms": SEGMENTS_EACH * SEGMENT_MS,
        "segmented_with": "cues",
    }


def _segments(count: int, decisions: int) -> Iterator[dict[str, Any]]:
    """Rows of each segment by table."""
    draw = random.Random(0)
    began = datetime(2026, 1, 5, 8, tzinfo=UTC)
    for number in range(count):
        recording = f"youtube:{number // SEGMENTS_EACH:011}"
        start = number % SEGMENTS_EACH * SEGMENT_MS
        end = start + draw.randint(2000, SEGMENT_MS - 500)
        key = segment_id(recording, start, end)
        subtitle, pseudo, review = 2 * number + 1, 2 * number + 2, 2 * count + number + 1
        said = draw.choices(WORDS.split(), k=(end - start) // 400)
        doubt = draw.random() ** 2
        heard = [word if draw.random() > doubt / 3 else word[::-1] for word in said]
        step = (end - start) // len(heard)
        words = [
            [start + i * step, start + (i + 1) * step, word, round(draw.random(), 3)]
            for i, word in enumerate(heard)
        ]
        cer = doubt / 3
        scores = {"avg_logprob": -doubt, "no_speech_prob": 0.1, "compression_ratio": 1.2}
        row: dict[str, Any] = {
            "segment": {
                "id": key,
                "recording_id": recording,
                "start_ms": start,
                "end_ms": end,
            },
            "transcripts": [
                _transcript(subtitle, key, "subtitle", "made up", " ".join(said)),
                _transcript(pseudo, key, "pseudo", "small@1234", " ".join(heard), words),
            ],
            "scores": [
                *({"transcript_id": pseudo, "name": n, "value": v} for n, v in scores.items()),
                {"transcript_id": subtitle, "name": "cer", "value": cer},
            ],
            "verdict": {
                "segment_id": key,
                "verdict": "keep" if cer < 0.1 else "review" if cer < 0.25 else "drop",
                "reasons": [f"differs: CER {cer:.2f}"],
                "transcript_id": pseudo,
                "thresholds": "default@0",
            },
        }
        if number < decisions:
            reviewer = f"person{number % 20:02}"
            after = _transcript(review, key, "review", reviewer, " ".join(said))
            row["transcripts"].append(after)
            row["decision"] = {
                "segment_id": key,
                "reviewer": reviewer,
                "action": "accept" if said == heard else "correct",
                "before": " ".join(heard),
                "transcript_id": review,
                "lead_ms": int((end - start) * draw.lognormvariate(0.4, 0.5)),
                "made_at": began + timedelta(seconds=number),
            }
        yield row


def _transcript(
    id: int, segment: str, kind: str, origin: str, text: str, words: list[Any] | None = None
) -> dict[str, Any]:
    return {
        "id": id,
        "segment_id": segment,
        "kind": kind,
        "origin": origin,
        "text": text,
        "words": words,
    }
