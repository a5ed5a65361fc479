"""WebDataset: tar files of 500 samples; a row is three files, NAME.flac, NAME.txt and NAME.json."""

import io
import json
import tarfile
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from corpus.export.rows import NamedRow

SHARD_ROWS = 500  # 480 MB of 30 s windows at most, whatever the sound


def write_split(folder: Path, split: str, rows: Iterable[NamedRow], home: Path) -> None:
    """Write `SPLIT-000000.tar` and so on; the JSON holds all of a row but its audio."""
    numbered = enumerate(rows)
    for shard, members in groupby(numbered, key=lambda item: item[0] // SHARD_ROWS):
        with tarfile.open(folder / f"{split}-{shard:06d}.tar", "w") as tar:
            for _, (name, row) in members:
                labels = {key: value for key, value in row.items() if key != "audio"}
                _add(tar, f"{name}.flac", row["audio"]["bytes"])
                _add(tar, f"{name}.txt", row["text"].encode())
                _add(tar, f"{name}.json", json.dumps(labels, ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    """Add a file of no time and no owner, so that equal rows give equal bytes."""
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
