"""Lhotse: a CutSet for each split; a row is a recording and its segments are supervisions.

Lhotse looks for relative paths from the current folder, so the paths are whole ones.
"""

import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from corpus.audio import SAMPLE_RATE
from corpus.dataset import Row
from corpus.export.rows import NamedRow


def write_split(folder: Path, split: str, rows: Iterable[NamedRow], home: Path) -> None:
    """Write `cuts_SPLIT.jsonl.gz` and `audio/NAME.flac`."""
    (folder / "audio").mkdir(exist_ok=True)
    with (
        (folder / f"cuts_{split}.jsonl.gz").open("wb") as file,
        # Without name and time in the header, equal cuts give equal bytes.
        gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as cuts,
    ):
        for name, row in rows:
            audio = f"audio/{name}.flac"
            (folder / audio).write_bytes(row["audio"]["bytes"])
            print(json.dumps(_cut(row, home / audio), ensure_ascii=False), file=cuts)


def _cut(row: Row, audio: Path) -> dict[str, Any]:
    """A MonoCut over the whole of a row."""
    samples = round(row["duration"] * SAMPLE_RATE)
    return {
        "id": row["id"],
        "type": "MonoCut",
        "start": 0.0,
        "duration": samples / SAMPLE_RATE,
        "channel": 0,
        "supervisions": [
            {
                "id": segment["segment_id"],
                "recording_id": row["id"],
                "start": segment["start"],
                # As a difference it would have digits that no sample has.
                "duration": round(segment["end"] - segment["start"], 2),
                "channel": 0,
                "text": segment["text"],
                "language": row["language"],
                "speaker": segment["speaker"],
                "custom": {"source": segment["source"]},
            }
            for segment in row["segments"]
        ],
        "recording": {
            "id": row["id"],
            "sources": [{"type": "file", "channels": [0], "source": str(audio)}],
            "sampling_rate": SAMPLE_RATE,
            "num_samples": samples,
            "duration": samples / SAMPLE_RATE,
            "channel_ids": [0],
        },
        "custom": {
            "previous_text": row["previous_text"],
            "licences": row["licences"],
            "label_kinds": row["label_kinds"],
            "redistributable": row["redistributable"],
        },
    }
