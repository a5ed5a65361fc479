"""Takes over data sets that `corpus build` did not make: any of Hugging Face's with audio and text.

A clip becomes a row with one segment, decoded once and kept as FLAC, so training reads, packs and
streams it like any other, whatever format and rate it came in. It lies in the user's cache, under a
name that changes when the data set does. What has to be judged, cut or divided into train and test
first goes through `corpus import hf`.
"""

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from corpus.audio import SAMPLE_RATE, MediaError, decode
from corpus.console import progress, say
from corpus.dataset import LabelledSegment, Row, window_row, write_dataset
from corpus.dataset.hf import (
    AUDIO_COLUMNS,
    DataSet,
    Example,
    guess_columns,
    our_split,
    row_language,
)
from corpus.errors import UserError
from corpus.pack import WINDOW_SECONDS
from corpus.text import clean_transcript


def as_dataset(name: str, language: str | None = None) -> str:
    """A dataset of ours as it is, or else the folder of what was taken over.

    Args:
        name: a folder, an address of Parquet files, or a name of the Hub.
        language: of rows that do not tell theirs.

    Raises:
        UserError: it is no data set or a folder of several of ours, a row's language is not known,
            or no clip can be used.
    """
    if "://" in name or _is_ours(Path(name)):
        return name
    if within := [str(path) for path in sorted(Path(name).glob("[!.]*")) if _is_ours(path)]:
        raise UserError(f"{name} holds datasets and is none; name those: {' '.join(within)}")
    folder = _cache() / f"{Path(name).name}-{_fingerprint(name, language)}"
    if not (folder / "manifest.json").exists():
        _take_over(DataSet(name), language, folder)
    return str(folder)


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds what `corpus build` makes, by a column that nobody else has."""
    shards = sorted(folder.glob("*-?????-of-?????.parquet"))
    try:
        return any("segments" in pq.read_schema(shard).names for shard in shards[:1])
    except (OSError, pa.ArrowInvalid):
        return True  # to be told as what it is: a damaged file


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "whisper-harvest" / "datasets"


def _fingerprint(name: str, language: str | None) -> str:
    """Of where a data set is, what language it is said to be in, and the state of its files.

    A name of the Hub stands for what was there when it was first taken over: to take it over anew,
    remove it from the cache.
    """
    root = Path(name).expanduser()
    digest = hashlib.sha256(f"{root.resolve()}\n{name}\n{language}".encode())
    for path in _files(root):
        state = path.stat()
        digest.update(f"\n{path}\t{state.st_size}\t{state.st_mtime_ns}".encode())
    return digest.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    """Those that a data set here is made of: a folder's, or the one file and the audio it names."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    if not path.is_file():
        return []
    named = _named_audio(path) if path.suffix == ".csv" else set()
    return [path, *sorted(file for file in named if file.is_file())]


def _named_audio(table: Path) -> set[Path]:
    """The files beside a CSV file that it names; not all that lie there, such as a run's own."""
    try:
        with table.open(encoding="utf-8", errors="replace", newline="") as lines:
            rows = csv.DictReader(lines)
            column = next((name for name in AUDIO_COLUMNS if name in (rows.fieldnames or ())), None)
            return {table.parent / (row[column] or "") for row in rows} if column else set()
    except csv.Error:
        return set()  # whoever reads it tells what is wrong


def _take_over(source: DataSet, language: str | None, folder: Path) -> None:
    columns = guess_columns(source.column_names())
    card = source.card()
    languages = [language] if language else list(card.languages)
    left_out: Counter[str] = Counter()

    def rows(split: str) -> Iterator[Row]:
        names = [name for name in source.splits if our_split(name) == split]
        if not names:
            return
        examples = source.examples(columns, only=names)
        for example in progress(examples, desc=f"take over {source.name}, {split}", unit="clip"):
            row = _row(example)
            if isinstance(row, str):
                left_out[row] += 1
            else:
                yield row

    def _row(example: Example) -> Row | str:
        spoken = language or row_language(example.language)
        if spoken is None:
            if len(languages) != 1:
                raise UserError(
                    f"{source.name} does not tell its language; give it by --language cs, or for "
                    "`train fit` by --set language=cs"
                )
            (spoken,) = languages
        if example.problem:
            return "audio that cannot be read"
        try:
            pcm = decode(example.audio)
        except MediaError:
            return "audio that cannot be decoded"
        if not 0 < pcm.size <= WINDOW_SECONDS * SAMPLE_RATE:
            return "longer than 30 s" if pcm.size else "no audio"
        segment = LabelledSegment(
            pcm,
            clean_transcript(example.text),
            example.speaker,
            source.name,
            f"{source.name}:{example.name}",
            card.licence or "unknown",
            "release",
            redistributable=False,
            cut_before=False,
            cut_after=False,
        )
        return window_row(example.name, [segment], language=spoken)

    folder.parent.mkdir(parents=True, exist_ok=True)
    write_dataset(
        folder,
        {split: rows(split) for split in ("train", "dev", "test")},
        readme=f"# {source.name}\n\nTaken over for training; made by others.\n",
        attribution=f"{source.name}: {card.licence or 'licence unknown'}\n",
        manifest={"taken_over": source.name, "left_out": left_out},
    )
    if left_out:
        told = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        say(f"{source.name}: left out {told}")
