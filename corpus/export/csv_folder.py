"""CSV and audio: `SPLIT/metadata.csv` beside its files, which `datasets` loads as `audiofolder`."""

import csv
from collections.abc import Iterable
from pathlib import Path

from corpus.export.rows import NamedRow, speakers

COLUMNS = (
    "file_name",
    "text",
    "language",
    "duration",
    "speakers",
    "sources",
    "licences",
    "label_kinds",
    "redistributable",
    "row_id",
)


def write_split(folder: Path, split: str, rows: Iterable[NamedRow], home: Path) -> None:
    """Write `SPLIT/metadata.csv`, a line for each row, and `SPLIT/NAME.flac`.

    Durations are in seconds; several speakers, sources or licences are joined by ``;``.
    """
    (folder / split).mkdir()
    with (folder / split / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        lines.writeheader()
        for name, row in rows:
            audio = f"{name}.flac"
            (folder / split / audio).write_bytes(row["audio"]["bytes"])
            sources = sorted({segment["source"] for segment in row["segments"]})
            lines.writerow(
                {
                    "file_name": audio,
                    "text": row["text"],
                    "language": row["language"],
                    "duration": row["duration"],
                    "speakers": ";".join(speakers(row)),
                    "sources": ";".join(sources),
                    "licences": ";".join(row["licences"]),
                    "label_kinds": ";".join(row["label_kinds"]),
                    "redistributable": row["redistributable"],
                    "row_id": row["id"],
                }
            )
