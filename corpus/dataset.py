"""The frozen dataset: a Hugging Face folder of Parquet that `corpus` writes and `train` reads.

`write_dataset` streams rows into a hidden folder beside the target and renames it when the last
file is complete, so a dataset is either whole or absent. Equal rows give equal bytes.
`read_split` gives the FLAC bytes as they are: `datasets` would decode them with torchcodec, whose
wheels fit few machines, and `corpus.audio` decodes them anywhere.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus.audio import SAMPLE_RATE, Pcm, encode_flac
from corpus.errors import UserError
from corpus.pack import STEPS_PER_SECOND, WINDOW_SECONDS
from corpus.pieces import faded

if TYPE_CHECKING:
    import datasets

GRID_SAMPLES = SAMPLE_RATE // STEPS_PER_SECOND  # samples in one 0.02 s step
ROW_GROUP_ROWS = 100  # what the writer holds in memory; about 50 MB of 30 s windows
SHARD_BYTES = 500_000_000  # the Hub's advice for a file


class Audio(TypedDict):
    """A whole FLAC file, 16 kHz mono, and the name it would have."""

    bytes: bytes
    path: str


class RowSegment(TypedDict):
    """A segment in a row; `start` and `end` in seconds of the row's audio, on the 0.02 s grid."""

    start: float
    end: float
    text: str
    speaker: str | None
    source: str
    segment_id: str


class Row(TypedDict):
    """One training window, or one segment of dev or test.

    `duration` is the length of the audio in seconds, `speech_seconds` the same without the
    padding between segments. `previous_text` is what was truly said just before in the same
    recording, or None.
    """

    id: str
    audio: Audio
    text: str
    segments: list[RowSegment]
    previous_text: str | None
    language: str
    duration: float
    speech_seconds: float
    licences: list[str]
    redistributable: bool
    label_kinds: list[str]


_TEXT = {"dtype": "string", "_type": "Value"}
_SECONDS = {"dtype": "float64", "_type": "Value"}
_FEATURES = {
    "id": _TEXT,
    "audio": {"sampling_rate": SAMPLE_RATE, "_type": "Audio"},
    "text": _TEXT,
    "segments": {
        "feature": {
            "start": _SECONDS,
            "end": _SECONDS,
            "text": _TEXT,
            "speaker": _TEXT,
            "source": _TEXT,
            "segment_id": _TEXT,
        },
        "_type": "List",
    },
    "previous_text": _TEXT,
    "language": _TEXT,
    "duration": _SECONDS,
    "speech_seconds": _SECONDS,
    "licences": {"feature": _TEXT, "_type": "List"},
    "redistributable": {"dtype": "bool", "_type": "Value"},
    "label_kinds": {"feature": _TEXT, "_type": "List"},
}

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("audio", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        ("text", pa.string()),
        (
            "segments",
            pa.list_(
                pa.struct(
                    [
                        ("start", pa.float64()),
                        ("end", pa.float64()),
                        ("text", pa.string()),
                        ("speaker", pa.string()),
                        ("source", pa.string()),
                        ("segment_id", pa.string()),
                    ]
                )
            ),
        ),
        ("previous_text", pa.string()),
        ("language", pa.string()),
        ("duration", pa.float64()),
        ("speech_seconds", pa.float64()),
        ("licences", pa.list_(pa.string())),
        ("redistributable", pa.bool_()),
        ("label_kinds", pa.list_(pa.string())),
    ],
    # Where `datasets` looks for the types that Arrow does not have.
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelledSegment:
    """A segment as it goes into a row.

    Attributes:
        pcm: int16 [samples] at 16 kHz.
        text: the transcript to train on.
        speaker: who speaks, where it is known.
        source: where the recording comes from.
        segment_id: the segment's id in the catalogue.
        licence: SPDX id of the recording's licence.
        label_kind: where the transcript comes from: subtitle, pseudo, review or release.
        redistributable: whether the audio may be given to others.
        cut_before: whether its recording goes on before it, so that it begins in mid-sound.
        cut_after: whether its recording goes on after it.
        pause_samples: at the end of `pcm`, not in the segment: a pause before the next one.
    """

    pcm: Pcm
    text: str
    speaker: str | None
    source: str
    segment_id: str
    licence: str
    label_kind: str
    redistributable: bool
    cut_before: bool = True
    cut_after: bool = True
    pause_samples: int = 0


def window_row(
    row_id: str,
    segments: Sequence[LabelledSegment],
    *,
    language: str,
    previous_text: str | None = None,
) -> Row:
    """Lay segments end to end into one row.

    Each segment is padded with zeros to the 0.02 s grid, so that its start and end are exactly
    what a timestamp token can say. At a joint the side that is cut out of a longer recording is
    faded over 5 ms; whole clips and the row's own beginning and end stay as they are.

    Raises:
        ValueError: there is no segment, or together they are longer than 30 s.
    """
    if not segments:
        raise ValueError(f"{row_id}: a row needs at least one segment")
    parts: list[Pcm] = []
    labels: list[RowSegment] = []
    samples = 0
    for index, segment in enumerate(segments):
        pcm = faded(
            segment.pcm,
            into=segment.cut_before and index > 0,
            out=segment.cut_after and index < len(segments) - 1,
        )
        parts.append(np.pad(pcm, (0, -pcm.size % GRID_SAMPLES)))
        labels.append(
            RowSegment(
                start=samples / SAMPLE_RATE,
                end=(samples + parts[-1].size - segment.pause_samples) / SAMPLE_RATE,
                text=segment.text,
                speaker=segment.speaker,
                source=segment.source,
                segment_id=segment.segment_id,
            )
        )
        samples += parts[-1].size
    if samples > WINDOW_SECONDS * SAMPLE_RATE:
        raise ValueError(f"{row_id}: {samples / SAMPLE_RATE:.2f} s are more than a window holds")
    return Row(
        id=row_id,
        audio=Audio(bytes=encode_flac(np.concatenate(parts)), path=f"{row_id}.flac"),
        text=" ".join(segment.text for segment in segments),
        segments=labels,
        previous_text=previous_text,
        language=language,
        duration=samples / SAMPLE_RATE,
        speech_seconds=sum(s.pcm.size - s.pause_samples for s in segments) / SAMPLE_RATE,
        licences=sorted({segment.licence for segment in segments}),
        redistributable=all(segment.redistributable for segment in segments),
        label_kinds=sorted({segment.label_kind for segment in segments}),
    )


# --- files --------------------------------------------------------------------------------------


def write_dataset(
    folder: Path,
    splits: Mapping[str, Iterable[Row]],
    *,
    readme: str,
    attribution: str,
    manifest: Mapping[str, Any],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a dataset; `folder` appears when it is complete, or not at all.

    The rows of each split are read once and 100 of them held at a time. A split without rows has
    no file. `manifest` is written with the number of rows of each split and the sha256 of each
    file added, so that two builds can be compared by reading.

    Raises:
        UserError: `folder` exists, or no split has a row.
    """
    if folder.exists():
        raise UserError(
            f"{folder} exists and a dataset is frozen: choose another name, or remove it first"
        )
    with _partial_folder(folder) as partial:
        rows = {
            split: _write_split(partial, split, split_rows, shard_bytes)
            for split, split_rows in splits.items()
        }
        if not any(rows.values()):
            raise UserError(f"{folder.name}: nothing to write, no split has a row")
        (partial / "README.md").write_text(readme, encoding="utf-8")
        (partial / "ATTRIBUTION.md").write_text(attribution, encoding="utf-8")
        whole = {**manifest, "rows": rows, "files": file_hashes(partial)}
        (partial / "manifest.json").write_text(
            json.dumps(whole, ensure_ascii=False, indent=2, sort_keys=True) + "\n",
            encoding="utf-8",
        )
        try:
            partial.rename(folder)
        except OSError as error:
            raise UserError(f"{folder} could not be put in place: {error.strerror}") from error


def file_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a dataset by name, without its manifest's."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            with path.open("rb") as file:
                hashes[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


@contextmanager
def _partial_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, gone afterwards unless it was renamed.

    The folder is locked while it is written. What killed builds left behind is unlocked, and is
    removed here.
    """
    prefix = f".{folder.name}.partial-"
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.iterdir():
        if left.name.startswith(prefix):
            with _lock(left) as free:
                if free:
                    shutil.rmtree(left)
    partial = folder.with_name(prefix + uuid.uuid4().hex[:8])
    partial.mkdir()
    with _lock(partial):
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether this process could lock `folder`; the kernel unlocks it when the process dies."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(descriptor)


def _write_split(folder: Path, split: str, rows: Iterable[Row], shard_bytes: int) -> int:
    """Write `split`'s shards into `folder`; the number of rows."""
    count, size = 0, 0
    shards: list[Path] = []
    writer: pq.ParquetWriter | None = None
    iterator = iter(rows)
    try:
        while batch := list(islice(iterator, ROW_GROUP_ROWS)):
            table = pa.Table.from_pylist(batch, schema=SCHEMA)
            if writer is not None and size + table.nbytes > shard_bytes:
                writer.close()
                writer = None
            if writer is None:
                shards.append(folder / f"{split}-{len(shards):05d}.parquet")
                # FLAC gains nothing from a dictionary; zstd at a fixed level keeps bytes equal.
                writer = pq.ParquetWriter(
                    shards[-1],
                    SCHEMA,
                    compression="zstd",
                    compression_level=3,
                    use_dictionary=False,
                )
                size = 0
            writer.write_table(table)
            size += table.nbytes
            count += len(batch)
    finally:
        if writer is not None:
            writer.close()
    for index, shard in enumerate(shards):
        shard.rename(folder / f"{split}-{index:05d}-of-{len(shards):05d}.parquet")
    return count


def read_split(folder: Path, split: str) -> datasets.Dataset:
    """One split of a dataset that `write_dataset` wrote, memory-mapped.

    `audio` holds {"bytes": FLAC, "path": name}, undecoded; torchcodec is never imported.

    Raises:
        UserError: the folder, the split, one of its shards or a column is missing, or a shard
            is no Parquet file.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such dataset; `corpus build` makes one")
    shards = sorted(folder.glob(f"{split}-?????-of-?????.parquet"))
    if not shards:
        found = sorted({path.name.split("-")[0] for path in folder.glob("*-of-*.parquet")})
        there = f"it has {', '.join(found)}" if found else "it holds no split at all"
        raise UserError(f"{folder}: no split {split}; {there}")
    expected = int(shards[0].stem.rsplit("-", 1)[1])
    if len(shards) != expected:
        raise UserError(f"{folder}: {len(shards)} of {expected} {split} files; copy it again")
    for shard in shards:
        try:
            names = pq.read_schema(shard).names
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{shard}: not a readable Parquet file; copy it again") from error
        if missing := [name for name in SCHEMA.names if name not in names]:
            raise UserError(
                f"{shard}: column {', '.join(missing)} missing; `corpus build` makes the format"
            )

    import datasets

    dataset = datasets.Dataset.from_parquet(
        [str(shard) for shard in shards], split=datasets.NamedSplit(split)
    )
    return dataset.cast_column("audio", datasets.Audio(decode=False))


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


# --- documents ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class SplitTotals:
    """What a card says of a split: rows, segments in them, seconds of audio and of speech."""

    rows: int
    segments: int
    seconds: float
    speech_seconds: float


@dataclass(frozen=True)
class Credit:
    """A work that a dataset uses, as its licence asks it to be named."""

    title: str
    author: str
    url: str
    licence: str
    seconds: float


def dataset_card(
    name: str,
    *,
    languages: Sequence[str],
    splits: Mapping[str, SplitTotals],
    licences: Mapping[str, float],
    label_kinds: Mapping[str, float],
    redistributable: bool,
) -> str:
    """The README.md of a dataset: YAML for the Hub, then tables for people.

    Args:
        name: of the dataset.
        languages: language codes.
        splits: totals of each split; those without rows are left out.
        licences: seconds of speech by SPDX id.
        label_kinds: seconds of speech by where the transcript comes from.
        redistributable: whether all audio may be given to others.
    """
    present = {split: totals for split, totals in splits.items() if totals.rows}
    header = {
        "pretty_name": name,
        "language": list(languages),
        "license": sorted(licence.lower() for licence in licences),
        "task_categories": ["automatic-speech-recognition"],
        "size_categories": [_size_category(sum(totals.rows for totals in present.values()))],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": f"{split}-*.parquet"} for split in present],
            }
        ],
    }
    sharing = (
        "All audio may be redistributed under the licences above, with `ATTRIBUTION.md`."
        if redistributable
        else "**Do not publish this dataset as it is:** the terms of some of its audio forbid "
        "handing it on. Those rows have `redistributable` = false."
    )
    lines = [
        "---",
        # JSON is YAML, and quotes what needs quoting.
        *(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()),
        "---",
        "",
        f"# {name}",
        "",
        "Speech recognition windows of at most 30 s, 16 kHz mono FLAC. A train row is made of one "
        "or more segments laid end to end; `segments` says where each lies and where it comes "
        "from. A dev or test row is one segment.",
        "",
        "| split | rows | segments | audio h | speech h | fill |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {split} | {totals.rows:,} | {totals.segments:,} | {totals.seconds / 3600:.2f} "
            f"| {totals.speech_seconds / 3600:.2f} "
            f"| {totals.speech_seconds / (totals.rows * WINDOW_SECONDS):.1%} |"
            for split, totals in present.items()
        ),
        "",
        *_hours_table("licence", licences),
        "",
        sharing,
        "",
        *_hours_table("label", label_kinds),
        "",
        "`manifest.json` holds the versions, thresholds and seeds of the build and what was left "
        "out, with the reasons.",
    ]
    return "\n".join(lines) + "\n"


def attribution_md(name: str, credits: Iterable[Credit]) -> str:
    """ATTRIBUTION.md: title, author, link and licence of each work, and what was changed.

    These are the things that Creative Commons licences ask for (CC BY 4.0, section 3.a.1).
    """
    lines = [
        f"# Attribution for {name}",
        "",
        "The audio of these works was cut into segments, converted to 16 kHz mono, joined into "
        "windows of at most 30 s and labelled with transcripts. Their authors do not endorse "
        "that use.",
        "",
        "| title | author | link | licence | minutes used |",
        "| --- | --- | --- | --- | ---: |",
        *(
            f"| {_cell(credit.title)} | {_cell(credit.author)} | {_cell(credit.url)} "
            f"| {_cell(credit.licence)} | {credit.seconds / 60:.1f} |"
            for credit in credits
        ),
    ]
    return "\n".join(lines) + "\n"


def _hours_table(label: str, seconds: Mapping[str, float]) -> list[str]:
    return [
        f"| {label} | speech h |",
        "| --- | ---: |",
        *(f"| {_cell(key)} | {value / 3600:.2f} |" for key, value in sorted(seconds.items())),
    ]


def _cell(text: str) -> str:
    """`text` as a cell of a Markdown table: on one line, its bars escaped."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").split())


def _size_category(rows: int) -> str:
    """The Hub's name for a number of rows."""
    bounds = ["1K", "10K", "100K", "1M", "10M", "100M"]
    for index, bound in enumerate(bounds):
        if rows < 1000 * 10**index:
            return f"{bounds[index - 1]}<n<{bound}" if index else "n<1K"
    return "n>100M"
