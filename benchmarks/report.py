"""How long `corpus report` takes on 100,000 segments, from the shell's prompt to its answer.

The catalogue is made up: recordings of an hour and a half with subtitles that a model has listened
to, four scores a segment, and a verdict with a reason. Once the scores hold the CER between the
two; once they do not, and it is computed for an even choice. There are no media, so that the page
has no sounds.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import Figure
from benchmarks._common import insert_rows
from benchmarks.status import timed
from corpus.catalogue import Catalogue, Recording, Score, Segment, Transcript, Verdict, segment_id
from corpus.workspace import init_workspace

LIMIT_S = 10.0  # what a person waits for without doing something else
SEGMENT_MS = 10_000
SEGMENTS_EACH = 500  # in a recording
CHANNELS = 100
WORDS = ("call", "room", "number", "five", "mother", "saw", "seven", "red", "boats", "please")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--segments", type=int, default=100_000, metavar="N")


def measure(options: argparse.Namespace) -> list[Figure]:
    figures = []
    for scored, told in ((True, "CER in the scores"), (False, "CER to be computed")):
        with tempfile.TemporaryDirectory() as folder:
            workspace = init_workspace(Path(folder) / "workspace", "en")
            fill(Catalogue(workspace.catalogue_url), options.segments, scored=scored)
            page = str(Path(folder) / "report.html")
            seconds = timed(["report", "--html", page], workspace.root)
        name = f"report of {options.segments:,} segments, {told}"
        figures.append(Figure(name, seconds, "s", "limit", LIMIT_S))
    return figures


def fill(catalogue: Catalogue, segments: int, *, scored: bool) -> None:
    """Write made-up rows, thousands in a statement."""
    recordings = -(-segments // SEGMENTS_EACH)
    rows = list(_segments(segments, scored))
    insert_rows(
        catalogue,
        {
            Recording: [_recording(number) for number in range(recordings)],
            Segment: [row for row, *_ in rows],
            Transcript: [made for _, transcripts, *_ in rows for made in transcripts],
            Score: [score for *_, scores, _ in rows for score in scores],
            Verdict: [verdict for *_, verdict in rows],
        },
    )


def _recording(number: int) -> dict[str, Any]:
    channel = number % CHANNELS
    return {
        "id": f"youtube:{number:011}",
        "source": "youtube",
        "title": f"Talk {number}",
        "channel_id": f"UC{channel}",
        "channel": f"Channel {channel}",
        "language": "en",
        "licence": "CC-BY-3.0",
        "licence_evidence": {},
        "attribution": f"Talk {number}",
        "redistributable": True,
        "media_path": f"media/youtube/{number:011}.flac",
        "duration_ms": SEGMENTS_EACH * (SEGMENT_MS + 1000),
        "subtitle_path": f"media/youtube/{number:011}.en.srt",
        "segmented_with": "cues",
    }


def _segments(count: int, scored: bool) -> Iterator[tuple[Any, list[Any], list[Any], Any]]:
    """Rows of each segment: itself, its two transcripts, their scores, its verdict."""
    draw = random.Random(0)
    for number in range(count):
        recording = f"youtube:{number // SEGMENTS_EACH:011}"
        start = number % SEGMENTS_EACH * (SEGMENT_MS + 1000)
        end = start + draw.randint(2000, SEGMENT_MS)
        id, subtitle, pseudo = segment_id(recording, start, end), 2 * number + 1, 2 * number + 2
        said, error = " ".join(draw.choices(WORDS, k=15)), draw.random() ** 2
        heard = said[: max(1, round(len(said) * (1 - error)))]
        scores = {"avg_logprob": -draw.random(), "no_speech_prob": 0.1, "compression_ratio": 1.2}
        yield (
            {"id": id, "recording_id": recording, "start_ms": start, "end_ms": end},
            [
                {"id": subtitle, "segment_id": id, "kind": "subtitle", "origin": "", "text": said},
                {"id": pseudo, "segment_id": id, "kind": "pseudo", "origin": "m", "text": heard},
            ],
            [
                *({"transcript_id": pseudo, "name": n, "value": v} for n, v in scores.items()),
                *([{"transcript_id": subtitle, "name": "cer", "value": error}] if scored else []),
            ],
            {
                "segment_id": id,
                "verdict": "keep" if error < 0.15 else "review" if error < 0.35 else "drop",
                "reasons": [f"subtitle and model differ: CER {error:.2f}"],
                "transcript_id": subtitle,
                "thresholds": "default@0",
            },
        )
