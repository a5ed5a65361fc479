"""How long `corpus status` takes on a large catalogue, from the shell's prompt to its answer.

The catalogue is made up: each recording has one segment, transcript and verdict by default, and
for every ten recordings there is one refusal. What is measured is a new process each time, with
Python's start and imports, as a person waits for it.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import Figure
from benchmarks._common import insert_rows
from corpus.catalogue import (
    Catalogue,
    Failure,
    Recording,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.workspace import init_workspace

LIMIT_S = 2.0  # longer than this a person wonders whether it hangs
REPEATS = 3  # the fastest counts: the others shared the processor
SEGMENT_MS = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recordings", type=int, default=100_000, metavar="N")
    parser.add_argument(
        "--segments", type=int, default=1, metavar="N", help="in each recording (default: 1)"
    )


def measure(options: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        workspace = init_workspace(Path(folder) / "workspace", "cs")
        fill(Catalogue(workspace.catalogue_url), options.recordings, options.segments)
        figures = []
        for form in ([], ["--json"]):
            seconds = timed(["status", *form], workspace.root)
            name = " ".join([f"status of {options.recordings:,} recordings", *form])
            figures.append(Figure(name, seconds, "s", "limit", LIMIT_S))
        return figures


def timed(words: list[str], root: Path) -> float:
    """Seconds that a `corpus` command takes in the workspace `root`, in a new process."""
    command = [sys.executable, "-m", "corpus", *words, "--workspace", str(root)]

    def once() -> float:
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    return min(once() for _ in range(REPEATS))


def fill(catalogue: Catalogue, recordings: int, segments: int) -> None:
    """Write made-up rows, thousands in a statement."""
    insert_rows(
        catalogue,
        {
            Recording: (_recording(i, segments) for i in range(recordings)),
            Segment: (_segment(i, j) for i in range(recordings) for j in range(segments)),
            Transcript: (_transcript(i, j) for i in range(recordings) for j in range(segments)),
            Verdict: (_verdict(n, i, j, segments) for n, i, j in _numbers(recordings, segments)),
            Failure: (_failure(i) for i in range(math.ceil(recordings / 10))),
        },
    )


def _numbers(recordings: int, segments: int) -> Iterator[tuple[int, int, int]]:
    pairs = ((i, j) for i in range(recordings) for j in range(segments))
    return ((n, i, j) for n, (i, j) in enumerate(pairs, start=1))


def _name(recording: int) -> str:
    return f"youtube:{recording:011}"


def _segment_id(recording: int, position: int) -> str:
    start = position * SEGMENT_MS
    return segment_id(_name(recording), start, start + SEGMENT_MS)


def _recording(number: int, segments: int) -> dict[str, Any]:
    return {
        "id": _name(number),
        "source": "youtube" if number % 3 else "files",
        "title": f"Talk {number}",
        "language": "cs",
        "licence": "CC-BY-3.0",
        "licence_evidence": {"when": "2026-01-01T00:00:00+00:00"},
        "attribution": f"Talk {number}, licensed under CC-BY-3.0",
        "redistributable": True,
        "media_path": f"media/youtube/{number:011}.flac",
        "duration_ms": segments * SEGMENT_MS,
        "segmented_with": "cues" if number % 5 else None,
    }


def _segment(recording: int, position: int) -> dict[str, Any]:
    start = position * SEGMENT_MS
    return {
        "id": _segment_id(recording, position),
        "recording_id": _name(recording),
        "start_ms": start,
        "end_ms": start + SEGMENT_MS,
    }


def _transcript(recording: int, position: int) -> dict[str, Any]:
    return {
        "segment_id": _segment_id(recording, position),
        "kind": "subtitle" if recording % 2 else "pseudo",
        "origin": "made up",
        "text": "twelve or so words, as many as are said in ten seconds of speech",
    }


def _verdict(number: int, recording: int, position: int, segments: int) -> dict[str, Any]:
    return {
        "segment_id": _segment_id(recording, position),
        "verdict": ("keep", "keep", "review", "drop")[number % 4],
        "reasons": [],
        "transcript_id": number,
        "thresholds": "default@0",
    }


def _failure(number: int) -> dict[str, Any]:
    return {
        "stage": "fetch",
        "item": f"youtube:x{number:010}",
        "kind": "not_cc",
        "message": "its licence is Standard YouTube License",
        "url": f"https://www.youtube.com/watch?v=x{number:010}",
        "transient": False,
    }
