"""The files of a dataset: its manifest, their hashes, and which of them belong to a split."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.dataset.rows import SCHEMA
from corpus.errors import UserError
from corpus.files import file_sha256, read_json


def write_manifest(folder: Path, content: Mapping[str, Any]) -> None:
    """Write manifest.json, the same bytes for equal content."""
    (folder / "manifest.json").write_text(
        json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n",
        encoding="utf-8",
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The content of manifest.json; empty where there is none that can be read."""
    return read_json(folder / "manifest.json")


def file_hashes(folder: Path) -> dict[str, str]:
    """The sha256 of each file of a dataset by name, without its manifest's."""
    hashes = {}
    for path in sorted(folder.iterdir()):
        if path.name != "manifest.json":
            hashes[path.name] = file_sha256(path)
    return hashes


def check_shards(folder: Path) -> None:
    """See that a dataset's Parquet files are those that were built, by their hashes.

    Raises:
        UserError: one is gone or has changed.
    """
    for name, sha256 in read_manifest(folder).get("files", {}).items():
        path = folder / name
        if path.suffix == ".parquet" and not (path.is_file() and file_sha256(path) == sha256):
            raise UserError(f"{path}: not the file that was built; copy it again, or build anew")


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
