"""The Hub: a copy of a dataset that may be published.

What a source's terms forbid handing on is left out. `left_out.jsonl` names it by the ids of its
segments, so that whoever has the same releases can build the same rows from them.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import pyarrow.parquet as pq

from corpus import console
from corpus.card import Credit, Speech, SplitTotals, attribution_md, dataset_card
from corpus.dataset import (
    SCHEMA,
    file_hashes,
    link_or_copy,
    number_shards,
    read_manifest,
    read_rows,
    shards_of,
    splits_of,
    write_rows,
)
from corpus.errors import UserError

LEFT_OUT = "left_out.jsonl"

FREE_TEXT = {"CC0-1.0", "CC-PDM-1.0"}
"""Licences under which a text may be given to others even where its audio may not."""

_REBUILD = f"""
## How to build the rest

`{LEFT_OUT}` has a line for each row whose audio may not be handed on, with its segments in their
order. A segment's id ends in `@START-END`, milliseconds in its recording; what stands before is the
recording, for Common Voice `common-voice:LOCALE:CLIP`. Import the same release with whisper-harvest
to have segments of the same ids. A row's audio is its segments laid end to end, each padded with
zeros to the next 0.02 s; segments that follow each other in one recording keep what is between
them. `start` and `end` are seconds in the row.
"""


def write(dataset: Path, folder: Path) -> dict[str, Any]:
    """Write the rows that may be handed on into `folder`, with card, credits and recipe.

    A Parquet file all of whose rows may be handed on is linked, not written again.

    Returns:
        The manifest of the copy.

    Raises:
        UserError: no row may be handed on, or the dataset's manifest does not tell its speech.
    """
    manifest = read_manifest(dataset)
    if not {"speech", "works", "settings"} <= manifest.keys():
        raise UserError(f"{dataset}: its manifest does not tell its sources; build it anew")
    speech = [Speech(**part) for part in manifest["speech"]]
    shared = [part for part in speech if part.redistributable]
    if not shared:
        raise UserError(f"{dataset}: none of its audio may be handed on")
    splits: dict[str, SplitTotals] = {}
    with (folder / LEFT_OUT).open("w", encoding="utf-8") as recipe:
        for split in splits_of(dataset):
            shards = shards_of(dataset, split)
            bar = console.progress(shards, desc=f"export {split}", unit="file")
            splits[split] = _write_split(folder, split, bar, recipe)
    withheld: Counter[str] = Counter()
    for part in speech:
        if not part.redistributable:
            withheld[f"{part.source}: may not be handed on; see {LEFT_OUT}"] += part.segments
    if not withheld:
        (folder / LEFT_OUT).unlink()
    facts = {
        "languages": manifest["languages"],
        "left_out": manifest["left_out"] | withheld,
        "settings": manifest["settings"],
        "thresholds": manifest["thresholds"],
    }
    card = dataset_card(dataset.name, splits=splits, speech=shared, **facts)
    works = [Credit(**work) for work in manifest["works"] if work["redistributable"]]
    (folder / "README.md").write_text(card + _REBUILD * bool(withheld), encoding="utf-8")
    (folder / "ATTRIBUTION.md").write_text(attribution_md(dataset.name, works), encoding="utf-8")
    return facts | {
        "name": dataset.name,
        "speech": [asdict(part) for part in shared],
        "works": [asdict(work) for work in works],
        "splits": {split: asdict(totals) for split, totals in splits.items()},
        "rows": {split: totals.rows for split, totals in splits.items()},
        "files": file_hashes(folder),
    }


def _write_split(folder: Path, split: str, shards: Iterable[Path], recipe: TextIO) -> SplitTotals:
    """Copy a split's rows that may be handed on; the others' labels go to `recipe`."""
    written: list[Path] = []
    rows = segments = 0
    seconds = speech_seconds = 0.0
    labels = [name for name in SCHEMA.names if name != "audio"]
    for shard in shards:
        shared = 0
        found = pq.read_table(shard, columns=labels).to_pylist()
        for row in found:
            if not row["redistributable"]:
                print(json.dumps(_recipe(split, row), ensure_ascii=False), file=recipe)
                continue
            shared += 1
            segments += len(row["segments"])
            seconds += row["duration"]
            speech_seconds += row["speech_seconds"]
        rows += shared
        if shared:
            written.append(folder / f"{split}-{len(written):05d}.parquet")
        if shared == len(found):
            link_or_copy(shard, written[-1])
        elif shared:
            write_rows(written[-1], (row for row in read_rows(shard) if row["redistributable"]))
    number_shards(written)
    return SplitTotals(rows, segments, seconds, speech_seconds)


def _recipe(split: str, row: dict[str, Any]) -> dict[str, Any]:
    """What a row is made of; its words where their licence lets them go."""
    free = set(row["licences"]) <= FREE_TEXT
    fields = ["segment_id", "source", "start", "end", *(["text"] if free else [])]
    return {
        "id": row["id"],
        "split": split,
        "language": row["language"],
        "licences": row["licences"],
        "label_kinds": row["label_kinds"],
        "segments": [{name: segment[name] for name in fields} for segment in row["segments"]],
    }
