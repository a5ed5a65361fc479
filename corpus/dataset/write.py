"""Writes datasets: whole or not at all, the same bytes for the same rows, no file made twice."""

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
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from corpus import __version__
from corpus.chunks import chunks
from corpus.dataset.files import file_hashes, read_manifest, write_manifest
from corpus.dataset.rows import ROW_GROUP_ROWS, SCHEMA, Row
from corpus.errors import UserError
from corpus.files import file_sha256

SHARD_SECONDS = 4 * 3600.0  # at most 461 MB as FLAC, whatever the sound; the Hub advises 500 MB


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
        if file_sha256(shard) != sha256:
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
