"""The rows of datasets: their text in one go, their audio one by one.

Two ways to the audio. Mapped: `datasets` keeps an Arrow copy of the Parquet files in its cache, and
any row is at hand at once. Streamed: nothing is copied; row groups are read from the Parquet files
where they lie, in a folder or at any address that fsspec knows, and a few of them are kept. They
are kept in one place: each process that trains fetches for those that decode, see `train.data`.
"""

import io
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from corpus.audio import SAMPLE_RATE
from corpus.dataset import SCHEMA, read_split, shards_of
from corpus.errors import UserError

STREAMED_GROUPS = 4
"""Row groups whose windows are packed together, and which are kept: of `corpus build` 100 rows, at
most 50 minutes and 100 MB."""

TEXT_COLUMNS = [name for name in SCHEMA.names if name != "audio"]


class Folder(Protocol):
    """One split of one dataset."""

    @property
    def unit_rows(self) -> Sequence[int] | None:
        """How many rows are read together each time; None where each is at hand by itself."""

    def __len__(self) -> int:
        """Number of rows."""

    def text(self) -> Iterator[dict[str, Any]]:
        """The rows without their audio."""

    def audio(self, row: int) -> bytes:
        """A row's FLAC file."""


class Mapped:
    """A split in the cache of `datasets`."""

    unit_rows: None = None

    def __init__(self, folder: str, split: str) -> None:
        self.dataset = read_split(Path(folder), split)

    def __len__(self) -> int:
        return len(self.dataset)

    def text(self) -> Iterator[dict[str, Any]]:
        """See `Folder.text`."""
        return iter(self.dataset.select_columns(TEXT_COLUMNS))

    def audio(self, row: int) -> bytes:
        """See `Folder.audio`."""
        data: bytes = self.dataset[row]["audio"]["bytes"]
        return data


class Streamed:
    """A split that is read from its Parquet files: a folder's, or an address's such as hf://...

    Raises:
        UserError: there is no such split, or it cannot be read.
    """

    def __init__(self, folder: str, split: str) -> None:
        import pyarrow.parquet as pq

        self.kept: OrderedDict[int, Any] = OrderedDict()
        self.filesystem, self.shards = _find_shards(folder, split)
        self.groups: list[tuple[str, int]] = []  # of each row group its file and number there
        self.unit_rows: list[int] = []
        for shard in self.shards:
            with self.filesystem.open(shard) as file:
                parquet = pq.ParquetFile(file).metadata
            for group in range(parquet.num_row_groups):
                self.groups.append((shard, group))
                self.unit_rows.append(parquet.row_group(group).num_rows)
        self.ends = list(accumulate(self.unit_rows))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def text(self) -> Iterator[dict[str, Any]]:
        """See `Folder.text`. Parquet is stored by column: the audio is not touched."""
        import pyarrow.parquet as pq

        for shard in self.shards:
            with self.filesystem.open(shard) as file:
                for batch in pq.ParquetFile(file).iter_batches(columns=TEXT_COLUMNS):
                    yield from batch.to_pylist()

    def audio(self, row: int) -> bytes:
        """See `Folder.audio`."""
        number = bisect_right(self.ends, row)
        if number not in self.kept:
            self.kept[number] = self._read(*self.groups[number])
        self.kept.move_to_end(number)
        while len(self.kept) > STREAMED_GROUPS:
            self.kept.popitem(last=False)
        place = row - self.ends[number] + self.unit_rows[number]
        data: bytes = self.kept[number][place].as_py()
        return data

    def _read(self, shard: str, group: int) -> Any:
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        with self.filesystem.open(shard) as file:
            table = pq.ParquetFile(file).read_row_group(group, columns=["audio"], use_threads=False)
        return pc.struct_field(table["audio"], "bytes")

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"kept": OrderedDict()}  # too much to hand to another process


def _find_shards(folder: str, split: str) -> tuple[Any, list[str]]:
    """A filesystem and a split's files on it."""
    import fsspec

    if "://" not in folder:
        return fsspec.filesystem("file"), [str(path) for path in shards_of(Path(folder), split)]
    filesystem, shards = _shards_at(folder, split)
    if not shards:
        raise UserError(f"{folder}: no split {split} there; `corpus export` to the Hub makes one")
    return filesystem, shards


def _shards_at(address: str, split: str) -> tuple[Any, list[str]]:
    """The same at an address, where there may be none."""
    import fsspec

    try:
        filesystem, root = fsspec.core.url_to_fs(address)
        pattern = f"{root.rstrip('/')}/{split}-?????-of-?????.parquet"
        return filesystem, sorted(filesystem.glob(pattern))
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"{address} cannot be read: {error}") from error


def has_split(folder: str, split: str) -> bool:
    """Whether a dataset has a split, in a folder or at an address.

    Raises:
        UserError: the address cannot be read.
    """
    if "://" in folder:
        return bool(_shards_at(folder, split)[1])
    return any(Path(folder).glob(f"{split}-*.parquet"))


class Rows:
    """The rows of several datasets, numbered through."""

    def __init__(self, folders: Sequence[Folder]) -> None:
        self.folders = folders
        self.starts = [0, *accumulate(len(folder) for folder in folders)]

    def audio(self, row: int) -> bytes:
        """A row's FLAC file."""
        number = bisect_right(self.starts, row) - 1
        return self.folders[number].audio(row - self.starts[number])


def read_flac(data: bytes, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples `start` to `stop` of a FLAC file's bytes: int16 [samples], by seeking.

    Raises:
        UserError: it is not 16 kHz mono.
    """
    import soundfile

    pcm, rate = soundfile.read(io.BytesIO(data), start=start, stop=stop, dtype="int16")
    if rate != SAMPLE_RATE or pcm.ndim != 1:
        raise UserError("the dataset's audio is not 16 kHz mono; build it anew with `corpus build`")
    return pcm


def open_split(folders: Sequence[str], split: str) -> Any:
    """One split of one or more datasets, laid end to end, as a `datasets.Dataset`.

    Args:
        folders: or addresses; what lies at one is copied into the cache of `datasets`.

    Raises:
        UserError: a folder is missing or is no dataset, or one of them has no such split.
    """
    from datasets import concatenate_datasets

    return concatenate_datasets([_whole(str(folder), split) for folder in folders])


def _whole(folder: str, split: str) -> Any:
    if "://" not in folder:
        return Mapped(folder, split).dataset
    from datasets import Audio, Dataset

    filesystem, shards = _find_shards(folder, split)
    rows = Dataset.from_parquet([filesystem.unstrip_protocol(shard) for shard in shards])
    return rows.cast_column("audio", Audio(decode=False))
