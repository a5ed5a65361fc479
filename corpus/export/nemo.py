"""NeMo: a JSON line for each row, whose `audio_filepath` is relative to the manifest.

NeMo keeps fields that it does not know, so the segments go along.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from corpus.export.rows import NamedRow, speakers


def write_split(folder: Path, split: str, rows: Iterable[NamedRow], home: Path) -> None:
    """Write `SPLIT_manifest.json` and `audio/NAME.flac`; offset and duration are in seconds."""
    (folder / "audio").mkdir(exist_ok=True)
    with (folder / f"{split}_manifest.json").open("w", encoding="utf-8") as manifest:
        for name, row in rows:
            audio = f"audio/{name}.flac"
            (folder / audio).write_bytes(row["audio"]["bytes"])
            line = {
                "audio_filepath": audio,
                "offset": 0.0,
                "duration": row["duration"],
                "text": row["text"],
                "lang": row["language"],
                "row_id": row["id"],
                "segments": row["segments"],
            }
            if len(voices := speakers(row)) == 1:
                line["speaker"] = voices[0]
            print(json.dumps(line, ensure_ascii=False), file=manifest)
