"""How fast rows are written: beside bare decoding and encoding, and one worker beside two.

Ten hours of made-up speech lie in MP3 clips of a few seconds, as a release has them. The bare way
decodes each clip and encodes each window with the same libraries and does nothing else: no plan,
no check, no Parquet. Peak memory is that of the building process, for all of it and for a tenth.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import Figure
from benchmarks._common import peak_mib, spent_by
from benchmarks.packing import sample_durations
from corpus.audio import SAMPLE_RATE, Pcm, decode, encode_flac
from corpus.catalogue import (
    Catalogue,
    Recording,
    Segment,
    Transcript,
    Verdict,
    segment_id,
)
from corpus.workspace import init_workspace, open_workspace

BARE_GOAL = 0.9
"""Of the bare way's speed."""
WORKERS_GOAL = 1.7
CLIPS_PER_SPEAKER = 25
FILES = 500
"""Different clips; further recordings have these again, since encoding MP3 takes longest of all."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=600.0, help="length of the audio")


def measure(options: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        whole, part = Path(folder) / "whole", Path(folder) / "part"
        seconds = write_clips(whole, options.minutes * 60)
        write_clips(part, options.minutes * 6)
        # In turn, and the faster of two: a machine's own speed changes by some percent in minutes.
        turns = [
            {way: spent_by("building", way, whole) for way in ("bare", "1", "2")} for _ in range(2)
        ]
        tenth = spent_by("building", "1", part)

    def least(way: str, spent: str) -> float:
        return min(turn[way][spent] for turn in turns)

    speed, bare_speed = seconds / least("1", "cpu_s"), seconds / least("bare", "cpu_s")
    two_workers = least("1", "wall_s") / least("2", "wall_s")
    peak = least("1", "peak_mib")
    return [
        Figure("speed, CPU", speed, "x real time", "bare decoding and encoding", bare_speed),
        Figure("  of bare speed", speed / bare_speed, "", "goal", BARE_GOAL),
        Figure("two workers, time", two_workers, "x one", "goal", WORKERS_GOAL),
        Figure("peak memory", peak, "MiB", "a tenth of it", tenth["peak_mib"]),
    ]


def write_clips(root: Path, seconds: float) -> float:
    """A workspace with a release of MP3 clips, 48 kb/s; the seconds in them."""
    from demo.voices import BASE_VOICES, speak

    workspace = init_workspace(root, "en")
    talk = np.concatenate([speak("mother saw seven red boats", voice) for voice in BASE_VOICES])
    rows: list[Any] = []
    total = 0.0
    rng = np.random.default_rng(0)
    (root / "clips").mkdir()
    lengths = sample_durations(FILES)
    for number in count():
        if total >= seconds:
            break
        length = lengths[number % FILES]
        size = round(length * SAMPLE_RATE)
        path = root / "clips" / f"{number % FILES:06}.mp3"
        if not path.exists():
            _write_mp3(path, np.roll(talk, rng.integers(talk.size))[np.arange(size) % talk.size])
        rows.append(_recording(number, path, size * 1000 // SAMPLE_RATE))
        total += length
    catalogue = Catalogue(workspace.catalogue_url)
    with catalogue.session() as session:
        session.add_all(rows)
        session.flush()
        for row in rows:
            (segment,) = row.segments
            segment.verdict = Verdict(
                verdict="keep",
                reasons=[],
                transcript_id=segment.transcripts[0].id,
                thresholds="made up",
            )
    return total


def _write_mp3(path: Path, pcm: Pcm) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libmp3lame", rate=32_000, layout="mono")
        stream.bit_rate = 48_000
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=32_000)
        frame = av.AudioFrame.from_ndarray(pcm[np.newaxis], format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE, 0
        for resampled in resampler.resample(frame):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))


def _recording(number: int, path: Path, length_ms: int) -> Recording:
    name = f"clip:{number:06}"
    words = " ".join(f"{number * 31 + i:x}" for i in range(9))
    transcript = Transcript(kind="release", origin="made up", text=words)
    item = segment_id(name, 0, length_ms)
    segment = Segment(id=item, start_ms=0, end_ms=length_ms, transcripts=[transcript])
    return Recording(
        id=name,
        source="release",
        speaker=f"speaker{number // CLIPS_PER_SPEAKER}",
        language="en",
        licence="CC0-1.0",
        licence_evidence={},
        attribution="",
        redistributable=True,
        media_path=str(path),
        sha256=f"{number:064x}",
        duration_ms=length_ms,
        split="train",
        segmented_with="made up",
        segments=[segment],
    )


def _build(way: str, root: str) -> Iterator[tuple[str, float]]:
    from dataclasses import replace

    from corpus.build import build, plan_dataset
    from corpus.engine import Workers
    from corpus.kept import media_paths

    workspace = open_workspace(Path(root))
    catalogue = Catalogue(workspace.catalogue_url)
    settings = replace(workspace.config.build, dev_hours=0.0, test_hours=0.0, single_share=0.0)
    plan = plan_dataset(workspace, catalogue, settings)
    start, cpu = time.perf_counter(), time.process_time()
    if way == "bare":
        ids = sorted({item.media.id for item in plan.kept})
        paths = media_paths(workspace, catalogue, ids)
        start, cpu = time.perf_counter(), time.process_time()
        for window in plan.rows["train"]:
            encode_flac(np.concatenate([decode(paths[run[0].media.id]) for run in window]))
    else:
        workers = int(way)
        build(workspace, catalogue, way, plan, Workers(count=workers) if workers > 1 else Workers())
    yield "wall_s", time.perf_counter() - start
    yield "cpu_s", time.process_time() - cpu
    yield "peak_mib", peak_mib()
    if way != "bare":  # else the next build would take over its files
        shutil.rmtree(workspace.datasets / way)


if __name__ == "__main__":
    print(json.dumps(dict(_build(*sys.argv[1:]))))
