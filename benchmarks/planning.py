"""How long `corpus build` plans before it reads audio, and in how much memory.

The catalogue is made up, of the kind that asks most of a plan: clips of one segment each, as a
release has them, by speakers of 25 clips, with a fiftieth of the speakers held out. Each size is
planned in a process of its own: from the catalogue to windows, splits, leaks and fingerprint.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks import Figure
from benchmarks._common import peak_mib, spent_by
from benchmarks.packing import sample_durations
from corpus.catalogue import Catalogue, Recording, Segment, Transcript, Verdict, segment_id
from corpus.workspace import init_workspace

SECONDS_PER_MILLION = 20.0
MEMORY_LIMIT_MIB = 1024.0
CLIPS_PER_SPEAKER = 25
BATCH = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--segments",
        type=int,
        nargs="+",
        default=[10_000, 100_000, 1_000_000],
        metavar="N",
        help="sizes to plan, one after the other",
    )


def measure(options: argparse.Namespace) -> list[Figure]:
    figures = []
    for count in options.segments:
        with tempfile.TemporaryDirectory() as folder:
            workspace = init_workspace(Path(folder) / "workspace", "cs")
            fill(Catalogue(workspace.catalogue_url), count)
            spent = spent_by("planning", workspace.root)
        name = f"of {count:,} segments"
        limit = SECONDS_PER_MILLION * count / 1_000_000
        figures += [
            Figure(f"planning {name}", spent["cpu_s"], "CPU s", "limit", limit),
            Figure(f"peak memory {name}", spent["peak_mib"], "MiB", "limit", MEMORY_LIMIT_MIB),
        ]
    return figures


def fill(catalogue: Catalogue, count: int) -> None:
    """Write made-up clips, thousands in a statement."""
    rng = random.Random(0)
    words = ["".join(rng.choices("aeiklmnoprstuvyzá", k=rng.randint(2, 9))) for _ in range(20_000)]
    clips = zip(range(count), sample_durations(count), strict=True)
    batch: list[dict[type, dict[str, Any]]] = []
    for number, seconds in clips:
        batch.append(_clip(number, round(seconds * 1000), " ".join(rng.choices(words, k=11))))
        if len(batch) == BATCH or number == count - 1:
            with catalogue.session() as session:
                for table in (Recording, Segment, Transcript, Verdict):
                    session.execute(insert(table), [rows[table] for rows in batch])
            batch.clear()


def _clip(number: int, length_ms: int, text: str) -> dict[type, dict[str, Any]]:
    name = f"common-voice:cs:common_voice_cs_{number:08}"
    speaker = number // CLIPS_PER_SPEAKER
    segment = segment_id(name, 0, length_ms)
    return {
        Recording: {
            "id": name,
            "source": "common-voice/common-voice-21.0-cs",
            "speaker": f"common-voice:{speaker:0128x}",
            "language": "cs",
            "licence": "CC0-1.0",
            "licence_evidence": {},
            "attribution": "",
            "redistributable": False,
            "media_path": f"/releases/cv-corpus-21.0/cs/clips/common_voice_cs_{number:08}.mp3",
            "sha256": f"{number:064x}",
            "duration_ms": length_ms,
            "split": {0: "dev", 50: "test"}.get(speaker % 100, "train"),
            "segmented_with": "made up",
        },
        Segment: {"id": segment, "recording_id": name, "start_ms": 0, "end_ms": length_ms},
        Transcript: {
            "id": number + 1,
            "segment_id": segment,
            "kind": "release",
            "origin": "made up",
            "text": text,
        },
        Verdict: {
            "segment_id": segment,
            "verdict": "keep",
            "reasons": [],
            "transcript_id": number + 1,
            "thresholds": "made up",
        },
    }


def _plan(root: str) -> Iterator[tuple[str, float]]:
    from corpus.plan import make_plan
    from corpus.workspace import open_workspace

    workspace = open_workspace(Path(root))
    catalogue = Catalogue(workspace.catalogue_url)
    start = time.process_time()
    plan = make_plan(workspace, catalogue, workspace.config.build)
    yield "cpu_s", time.process_time() - start
    yield "peak_mib", peak_mib()
    yield "windows", len(plan.rows["train"])


if __name__ == "__main__":
    print(json.dumps(dict(_plan(sys.argv[1]))))
