"""Reads what `write_dataset` wrote, with the FLAC bytes as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dataset.files import shards_of
from corpus.dataset.rows import ROW_GROUP_ROWS, SCHEMA, Row
from corpus.errors import UserError

if TYPE_CHECKING:
    import datasets


def read_split(folder: Path, split: str) -> datasets.Dataset:
    """One split of a dataset that `write_dataset` wrote, memory-mapped.

    `audio` holds {"bytes": FLAC, "path": name}, undecoded; torchcodec is never imported.

    Raises:
        UserError: as `shards_of`.
    """
    shards = shards_of(folder, split)

    import datasets

    dataset = datasets.Dataset.from_parquet(
        [str(shard) for shard in shards], split=datasets.NamedSplit(split)
    )
    return dataset.cast_column("audio", datasets.Audio(decode=False))


def read_rows(shard: Path) -> Iterator[Row]:
    """The rows of one Parquet file as they were written, one row group in memory at a time."""
    with pq.ParquetFile(shard) as file:
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=SCHEMA.names):
            yield from batch.to_pylist()


@dataclass(frozen=True)
class HeldOut:
    """A row of a dataset's dev or test, which later datasets must not train on."""

    id: str
    """Dataset, split and row."""
    recording: str
    speaker: str | None
    text: str
    seconds: float
    shard: Path
    row: str


def held_out_rows(folder: Path) -> Iterator[HeldOut]:
    """The rows of dev and test of a dataset, without their audio.

    Raises:
        UserError: a file cannot be read.
    """
    columns = ["id", "text", "duration", "segments"]
    for split in ("dev", "test"):
        for shard in sorted(folder.glob(f"{split}-*.parquet")):
            try:
                rows = pq.read_table(shard, columns=columns).to_pylist()
            except (OSError, pa.ArrowException) as error:
                raise UserError(
                    f"{shard} cannot be read, so what it tests on is unknown; copy it again, or "
                    "move the dataset away"
                ) from error
            for row in rows:
                first = row["segments"][0] if row["segments"] else {}
                yield HeldOut(
                    id=f"{folder.name}/{split}/{row['id']}",
                    recording=(first.get("segment_id") or "").rpartition("@")[0],
                    speaker=first.get("speaker"),
                    text=row["text"],
                    seconds=row["duration"],
                    shard=shard,
                    row=row["id"],
                )


def held_out_audio(rows: Iterable[HeldOut]) -> Iterator[tuple[HeldOut, bytes]]:
    """The same rows with their FLAC bytes."""
    wanted: dict[Path, dict[str, HeldOut]] = {}
    for row in rows:
        wanted.setdefault(row.shard, {})[row.row] = row
    for shard, by_id in wanted.items():
        with pq.ParquetFile(shard) as file:
            for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=["id", "audio"]):
                for found in batch.to_pylist():
                    if found["id"] in by_id:
                        yield by_id[found["id"]], found["audio"]["bytes"]
