"""The frozen dataset: a Hugging Face folder of Parquet that `corpus` writes and `train` reads.

`write_dataset` streams rows into a hidden folder beside the target and renames it when the last
file is complete, so a dataset is either whole or absent. Equal rows give equal bytes, and a file
whose rows another dataset holds already is linked to instead of being made again.
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
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus import __version__
from corpus.audio import SAMPLE_RATE, Pcm, encode_flac
from corpus.chunks import chunks
from corpus.errors import UserError
from corpus.pack import STEPS_PER_SECOND, WINDOW_SECONDS
from corpus.pieces import faded

if TYPE_CHECKING:
    import datasets

GRID_SAMPLES = SAMPLE_RATE // STEPS_PER_SECOND  # samples in one 0.02 s step
ROW_GROUP_ROWS = 25  # what the writer holds, in several forms: of 30 s windows 17 MB at most
SHARD_SECONDS = 4 * 3600.0  # at most 461 MB as FLAC, whatever the sound; the Hub advises 500 MB


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


class PlannedRow(NamedTuple):
    """A row before its audio is read."""

    id: str
    seconds: float
    """Of its audio."""
    fingerprint: str
    """Another whenever anything of the row would be another."""


@dataclass(frozen=True)
class PlannedSplit:
    """The rows of a split, and what makes those at some places, in that order."""

    rows: Sequence[PlannedRow]
    read: Callable[[Sequence[int]], Generator[Row, None, None]]


def write_dataset(
    folder: Path,
    splits: Mapping[str, Iterable[Row] | PlannedSplit],
    *,
    readme: str,
    attribution: str,
    manifest: Mapping[str, Any],
    reuse: Iterable[Path] = (),
    shard_seconds: float = SHARD_SECONDS,
) -> int:
    """Write a dataset; `folder` appears when it is complete, or not at all.

    Rows are read once and 25 of them held at a time. A split without rows has no file. `manifest`
    is written with the number of rows of each split, the sha256 of each file and, for a later
    build to take it over, a fingerprint of each planned file added.

    Args:
        folder: must not exist.
        splits: the rows of each split.
        readme: content of README.md.
        attribution: content of ATTRIBUTION.md.
        manifest: content of manifest.json.
        reuse: earlier datasets. A file of theirs that holds the very rows that are planned for a
            file of this one is hard-linked (where that cannot be, copied); their audio is not read.
        shard_seconds: audio in one file, at most.

    Returns:
        The number of files that were taken over from earlier datasets.

    Raises:
        UserError: `folder` exists, or no split has a row.
    """
    if folder.exists():
        raise UserError(
            f"{folder} exists and a dataset is frozen: choose another name, or remove it first"
        )
    with partial_folder(folder) as partial:
        earlier = _earlier_shards(reuse)
        written = {
            split: _write_planned(partial, split, rows, earlier, shard_seconds)
            if isinstance(rows, PlannedSplit)
            else _write_stream(partial, split, rows, shard_seconds)
            for split, rows in splits.items()
        }
        shards = [shard for split_shards in written.values() for shard in split_shards]
        if not shards:
            raise UserError(f"{folder.name}: nothing to write, no split has a row")
        (partial / "README.md").write_text(readme, encoding="utf-8")
        (partial / "ATTRIBUTION.md").write_text(attribution, encoding="utf-8")
        whole = {
            **manifest,
            "rows": {split: sum(s.rows for s in found) for split, found in written.items()},
            "shards": {shard.name: shard.fingerprint for shard in shards if shard.fingerprint},
            "files": file_hashes(partial),
        }
        write_manifest(partial, whole)
        put_in_place(partial, folder)
    return sum(shard.taken_over for shard in shards)


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write manifest.json, the same bytes for equal content."""
    (folder / "manifest.json").write_text(
        json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n",
        encoding="utf-8",
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of manifest.json; empty where there is none that can be read."""
    try:
        content = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def file_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a dataset by name, without its manifest's."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            hashes[path.name] = _sha256(path)
    return hashes


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_shards(folder: Path) -> None:
    """See that a dataset's Parquet files are those that were built, by their hashes.

    Raises:
        UserError: one is gone or has changed.
    """
    for name, sha256 in read_manifest(folder).get("files", {}).items():
        path = folder / name
        if path.suffix == ".parquet" and not (path.is_file() and _sha256(path) == sha256):
            raise UserError(f"{path}: not the file that was built; copy it again, or build anew")


@contextmanager
def partial_folder(folder: Path) -> Iterator[Path]:
    """A hidden folder beside `folder`, gone afterwards unless `put_in_place` has renamed it.

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


def put_in_place(partial: Path, folder: Path) -> None:
    """Rename a partial folder that is complete.

    Raises:
        UserError: something else has come to lie at `folder`.
    """
    try:
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"{folder} could not be put in place: {error.strerror}") from error


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


@dataclass(frozen=True)
class _Shard:
    """A Parquet file that was written."""

    name: str
    rows: int
    fingerprint: str | None = None
    taken_over: bool = False


def _write_stream(
    folder: Path, split: str, rows: Iterable[Row], shard_seconds: float
) -> list[_Shard]:
    """Write rows as they come."""
    shards = []
    for index, part in enumerate(
        chunks(rows, key=lambda r: r["id"], size=lambda r: r["duration"], limit=shard_seconds)
    ):
        path = folder / f"{split}-{index:05d}.parquet"
        shards.append(_Shard(path.name, write_rows(path, part)))
    return _numbered(folder, shards)


def _write_planned(
    folder: Path,
    split: str,
    planned: PlannedSplit,
    earlier: Mapping[str, tuple[Path, str]],
    shard_seconds: float,
) -> list[_Shard]:
    """Write the shards of a split that no earlier dataset has."""
    shards: list[_Shard] = []
    wanted: list[int] = []
    start = 0
    for index, part in enumerate(
        chunks(planned.rows, key=lambda r: r.id, size=lambda r: r.seconds, limit=shard_seconds)
    ):
        rows = list(part)
        path = folder / f"{split}-{index:05d}.parquet"
        fingerprint = _shard_fingerprint(rows)
        taken = fingerprint in earlier and _take_over(*earlier[fingerprint], path)
        if not taken:
            wanted += range(start, start + len(rows))
        shards.append(_Shard(path.name, len(rows), fingerprint, taken))
        start += len(rows)
    if wanted:
        # One reading for all files: the workers that do it are started once.
        with closing(planned.read(wanted)) as made:
            for shard in shards:
                if not shard.taken_over:
                    write_rows(folder / shard.name, islice(made, shard.rows))
            next(made, None)  # it ends by itself, and has told all of its progress
    return _numbered(folder, shards)


def _numbered(folder: Path, shards: Sequence[_Shard]) -> list[_Shard]:
    names = number_shards([folder / shard.name for shard in shards])
    return [replace(shard, name=name) for shard, name in zip(shards, names, strict=True)]


def number_shards(shards: Sequence[Path]) -> list[str]:
    """Add ``-of-N`` to the names of a split's files, now that their number is known."""
    return [
        shard.rename(shard.with_stem(f"{shard.stem}-of-{len(shards):05d}")).name for shard in shards
    ]


def write_rows(path: Path, rows: Iterable[Row]) -> int:
    """Write one Parquet file, holding 25 rows at a time; the number of rows."""
    # FLAC, nearly all of it, gains nothing from a dictionary or from being compressed again.
    with pq.ParquetWriter(path, SCHEMA, compression="none", use_dictionary=False) as writer:
        iterator, count = iter(rows), 0
        while batch := list(islice(iterator, ROW_GROUP_ROWS)):
            writer.write_table(pa.Table.from_pylist(batch, schema=SCHEMA))
            count += len(batch)
    return count


def _shard_fingerprint(rows: Iterable[PlannedRow]) -> str:
    """Of the rows and of the programs that write them: each may change the bytes."""
    import soundfile

    programs = [__version__, pa.__version__, soundfile.__libsndfile_version__]
    text = json.dumps([*programs, *(row.fingerprint for row in rows)])
    return hashlib.sha256(text.encode()).hexdigest()


def _earlier_shards(folders: Iterable[Path]) -> dict[str, tuple[Path, str]]:
    """Path and sha256 of each shard of some datasets by the fingerprint of its rows."""
    found = {}
    for folder in folders:
        manifest = read_manifest(folder)
        hashes = manifest.get("files", {})
        for name, fingerprint in manifest.get("shards", {}).items():
            found[fingerprint] = (folder / name, hashes.get(name, ""))
    return found


def _take_over(shard: Path, sha256: str, target: Path) -> bool:
    """Link a shard of an earlier dataset; False where it is not what it was."""
    try:
        if _sha256(shard) != sha256:
            return False
    except OSError:
        return False
    link_or_copy(shard, target)
    return True


def link_or_copy(file: Path, target: Path) -> None:
    """Let `target` be the same file, or where that cannot be, a copy."""
    try:
        target.hardlink_to(file)
    except OSError:  # on another file system, or on one without links
        shutil.copyfile(file, target)


def splits_of(folder: Path) -> list[str]:
    """The splits of a dataset, as they are used: train, dev, test, then others.

    Raises:
        UserError: there is no such folder, or no split in it.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such dataset; `corpus build` makes one")
    found = {path.name.split("-")[0] for path in folder.glob("*-?????-of-?????.parquet")}
    if not found:
        raise UserError(f"{folder}: it holds no split at all; `corpus build` makes a dataset")
    known = [split for split in ("train", "dev", "test") if split in found]
    return known + sorted(found - set(known))


def shards_of(folder: Path, split: str) -> list[Path]:
    """The Parquet files of a split, in their order; each is seen to be one of ours.

    Raises:
        UserError: the folder, the split, one of its shards or a column is missing, or a shard
            is no Parquet file.
    """
    if split not in (found := splits_of(folder)):
        raise UserError(f"{folder}: no split {split}; it has {', '.join(sorted(found))}")
    shards = sorted(folder.glob(f"{split}-?????-of-?????.parquet"))
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
    return shards


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
