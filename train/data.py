"""All that a configuration trains on, made ready to be read."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from corpus.errors import UserError
from train.config import FitConfig
from train.foreign import as_dataset
from train.material import Material, collect
from train.model import Whisper
from train.reader import Reader
from train.rows import STREAMED_GROUPS, Folder, Mapped, Rows, Streamed, has_split, open_split
from train.stream import Request, Stream, weights_by_temperature

FETCHED_AHEAD = 8
"""Micro-batches."""


@dataclass
class Data:
    """The train splits of the datasets of a configuration."""

    materials: list[Material]
    stream: Stream
    reader: Reader
    streaming: bool

    def batches(
        self, start: int, stop: int, *, batch_size: int, micro_batch: int, rank: int, world: int
    ) -> Iterator[list[Request]]:
        """See `Stream.batches`; what is streamed is fetched here, ahead of its turn.

        Here and not by the processes that decode: each would need what all of them read.
        """
        batches = self.stream.batches(
            start,
            stop,
            batch_size=batch_size,
            micro_batch=micro_batch,
            rank=rank,
            world=world,
            fetch=self.reader.fetched if self.streaming else None,
        )
        return _ahead(batches) if self.streaming else batches

    @property
    def dropped(self) -> dict[str, int]:
        """Why how many rows or segments are left out."""
        total: Counter[str] = Counter()
        for material in self.materials:
            total += material.dropped
        return dict(total)


def open_data(config: FitConfig, whisper: Whisper) -> Data:
    """Read all that is known of the rows but their audio, and plan how they are gone through.

    Raises:
        UserError: a dataset is missing or has no train split, a language has no token, the weights
            are not as many as the datasets, or there is nothing to train on.
    """
    kind = Streamed if config.streaming else Mapped
    folders: list[Folder] = [kind(folder, "train") for folder in take_over(config)]
    rows = Rows(folders)
    materials = []
    for folder, first_row in zip(folders, rows.starts, strict=False):
        material = collect(
            folder.text(),
            whisper.vocabulary,
            whisper.encode,
            first_row=first_row,
            unit_rows=folder.unit_rows,
            repack=config.repack,
            language_token=config.language_token,
        )
        materials.append(material)
    for name, material in zip(config.datasets, materials, strict=True):
        if not material.units:
            raise UserError(f"nothing to train on in {name}")
    if not any(material.speaks for material in materials):
        raise UserError("nothing is said in any of the datasets; add one with speech")
    stream = Stream(
        materials,
        _weights(config, materials),
        config.seed,
        block_units=STREAMED_GROUPS if config.streaming else None,
        speed=config.speed,
        bpe_dropout=config.bpe_dropout,
    )
    sources = sorted({source for material in materials for source, _ in material.licences})
    return Data(materials, stream, Reader(rows, whisper, config, sources), config.streaming)


def _ahead(batches: Iterator[list[Request]]) -> Iterator[list[Request]]:
    """The same, drawn by a thread some batches ahead."""
    thread = ThreadPoolExecutor(1)
    try:
        coming = deque(thread.submit(next, batches, None) for _ in range(FETCHED_AHEAD))
        while (batch := coming.popleft().result()) is not None:
            coming.append(thread.submit(next, batches, None))
            yield batch
    finally:
        thread.shutdown(wait=False, cancel_futures=True)


def _weights(config: FitConfig, materials: Sequence[Material]) -> Sequence[float]:
    if config.weights is None:
        return weights_by_temperature(materials, config.temperature)
    if len(config.weights) != len(materials):
        raise UserError(f"{len(config.weights)} weights for {len(materials)} datasets")
    return config.weights


def open_dev(config: FitConfig) -> Any:
    """The dev splits as one `datasets.Dataset`, or None where no dataset has one."""
    with_dev = [folder for folder in take_over(config) if has_split(folder, "dev")]
    return open_split(with_dev, "dev") if with_dev else None


def take_over(config: FitConfig) -> list[str]:
    """The datasets in our form; the first call for those of others decodes all their audio."""
    return [as_dataset(name, config.language) for name in config.datasets]
