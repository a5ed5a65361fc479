"""What is read of a window: its sound where its timestamps say, and padding without loss."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from fsspec.implementations.local import LocalFileSystem
from torch.utils.data import DataLoader

from corpus.dataset import LabelledSegment, read_split, window_row, write_dataset
from train.config import FitConfig
from train.data import Data, open_data
from train.material import Window
from train.model import Whisper, load
from train.reader import Batch, Reader, Sample
from train.rows import read_flac
from train.stream import Draw, Request

SAMPLE_RATE = 16_000


@pytest.fixture(scope="module")
def whisper(tiny_model: Path) -> Whisper:
    return load(str(tiny_model))


@pytest.fixture(scope="module")
def open_with(dataset: Path, whisper: Whisper) -> Callable[..., Data]:
    def make(**options: Any) -> Data:
        return open_data(FitConfig((str(dataset),), "m", "o", **options), whisper)

    return make


def read_epoch(data: Data, epoch: int = 0) -> list[Sample]:
    return [data.reader[Request(draw, 64)] for draw in data.stream.epoch(epoch)]


def test_streamed_audio_is_the_same_as_mapped(open_with: Callable[..., Data]) -> None:
    mapped, streamed = open_with(), open_with(streaming=True)
    for draw in mapped.stream.epoch(0):
        np.testing.assert_array_equal(
            mapped.reader[Request(draw, 64)].pcm, streamed.reader[Request(draw, 64)].pcm
        )


class Counted(LocalFileSystem):  # type: ignore[misc]
    """A disk that notes what is opened, whichever process does."""

    protocol = "counted"
    log = Path()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(str(path).removeprefix("counted://")))

    def _open(self, path: str, *args: Any, **options: Any) -> Any:
        with self.log.open("a") as log:
            log.write(f"{path}\n")
        return super()._open(path, *args, **options)


def test_what_is_streamed_is_fetched_once_however_many_processes_decode_it(
    tmp_path: Path, whisper: Whisper, spoken_segments: list[LabelledSegment]
) -> None:
    rows = [
        window_row(f"row-{number}", [replace(segment, segment_id=f"{number}@0")], language="en")
        for number, segment in enumerate(spoken_segments * 4)
    ]
    write_dataset(tmp_path / "d", {"train": rows}, readme="", attribution="", manifest={})
    fsspec.register_implementation("counted", Counted, clobber=True)
    Counted.log = tmp_path / "log"
    config = FitConfig((f"counted://{tmp_path / 'd'}",), "m", "o", streaming=True, repack=False)
    data = open_data(config, whisper)
    known = len(Counted.log.read_text().splitlines())

    def read(workers: int) -> Iterator[Batch]:
        yield from DataLoader(
            data.reader,  # type: ignore[arg-type]
            batch_sampler=data.batches(0, 32, batch_size=8, micro_batch=4, rank=0, world=1),
            collate_fn=data.reader.collate,
            num_workers=workers,
        )

    batches = list(read(workers=2))
    groups = pq.ParquetFile(*(tmp_path / "d").glob("*.parquet")).num_row_groups
    assert groups == 11
    assert len(Counted.log.read_text().splitlines()) - known == groups
    for batch, alone in zip(batches, read(workers=0), strict=True):
        assert torch.equal(batch.pcm, alone.pcm)
        assert torch.equal(batch.labels, alone.labels)


def test_the_audio_of_every_utterance_lies_where_its_timestamps_say(
    dataset: Path, open_with: Callable[..., Data]
) -> None:
    rows = read_split(dataset, "train")
    source = {
        segment["text"] + row["id"]: read_flac(
            row["audio"]["bytes"],
            round(segment["start"] * SAMPLE_RATE),
            round(segment["end"] * SAMPLE_RATE),
        )
        for row in rows
        for segment in row["segments"]
    }
    data = open_with()
    for draw in data.stream.epoch(0):
        window, pcm = draw.window, data.reader[Request(draw, 64)].pcm
        assert pcm.dtype == np.int16
        assert pcm.shape == (480_000,)
        end = max(utterance.end or 0.0 for utterance in window.utterances)
        assert window.seconds - 1e-6 <= end <= 30
        assert not pcm[round(end * SAMPLE_RATE) :].any()
        for utterance, span in zip(window.utterances, window.spans, strict=False):
            if len(window.spans) != len(window.utterances):
                break  # a row as built: its audio is one stretch
            assert (utterance.start * 50) == pytest.approx(round(utterance.start * 50))
            begin = round(utterance.start * SAMPLE_RATE)
            expected = source[utterance.text + rows[span.row]["id"]]
            np.testing.assert_array_equal(pcm[begin : begin + expected.size], expected)


def test_sound_that_is_played_faster_still_lies_where_its_timestamps_say(
    open_with: Callable[..., Data],
) -> None:
    data = open_with(speed=0.99)
    changed = 0
    for draw in data.stream.epoch(0):
        window, pcm = draw.window, data.reader[Request(draw, 64)].pcm
        if len(window.spans) != len(window.utterances):
            continue
        changed += sum(span.speed != 1.0 for span in window.spans)
        loud = np.abs(pcm.astype(np.int32)) > 500
        for before, after in zip(window.utterances, window.utterances[1:], strict=False):
            assert before.end is not None
            # Tones begin and end at once, so the sound's own bounds are those of the utterance.
            begin, end = round(before.start * SAMPLE_RATE), round(before.end * SAMPLE_RATE)
            assert loud[begin : begin + 480].any()
            assert loud[end - 480 : end].any()
            assert not loud[end + 160 : round(after.start * SAMPLE_RATE) - 160].any()
    assert changed > 10


def test_silence_that_was_not_recorded_is_quiet_and_told_as_such(
    open_with: Callable[..., Data], whisper: Whisper
) -> None:
    data, vocabulary = open_with(), whisper.vocabulary
    window = Window("silence/0", "en", (), (), 0, 0)
    loudest, labels = set(), set()
    for key in map(str, range(30)):
        sample = data.reader[Request(Draw(window, key), 64)]
        assert sample.pcm.shape == (30 * SAMPLE_RATE,)
        loudest.add(int(np.abs(sample.pcm.astype(np.int32)).max()))
        labels.add(tuple(label for label in sample.target.labels if label != -100))
    assert min(loudest) == 0 < sorted(loudest)[1]
    assert max(loudest) < 32768 / 8
    assert labels == {
        (vocabulary.no_speech, vocabulary.end),
        (vocabulary.languages["en"], vocabulary.end),
    }


@pytest.mark.parametrize("bpe_dropout", [0.0, 0.3])
def test_a_batch_is_padded_as_planned_and_the_padding_has_no_loss(
    open_with: Callable[..., Data], whisper: Whisper, bpe_dropout: float
) -> None:
    data = open_with(bpe_dropout=bpe_dropout)
    end = whisper.vocabulary.end
    order = data.stream.batches(0, 4, batch_size=4, micro_batch=4, rank=0, world=1)
    for requests in order:
        samples = [data.reader[request] for request in requests]
        batch = data.reader.collate(samples)
        assert batch.labels.shape == batch.decoder_input_ids.shape == batch.sources.shape
        assert batch.labels.shape[1] == requests[0].length
        assert batch.labels.shape[1] % 8 == 0
        assert batch.tokens == sum(
            label != -100 for sample in samples for label in sample.target.labels
        )
        for row, sample in enumerate(samples):
            length = len(sample.target.labels)
            # The true <|endoftext|> keeps its loss although padding is the same token.
            assert batch.labels[row, length - 1] == end
            assert (batch.labels[row, length:] == -100).all()
            assert (batch.decoder_input_ids[row, length:] == end).all()


def test_lengths_are_planned_as_they_turn_out(open_with: Callable[..., Data]) -> None:
    data = open_with()
    for draw in data.stream.epoch(0):
        target = data.reader[Request(draw, 64)].target
        assert draw.window.tokens(draw.choices) == len(target.labels)


def test_each_token_is_known_by_its_source(
    open_with: Callable[..., Data], whisper: Whisper
) -> None:
    data = open_with()
    for draw in data.stream.epoch(0):
        target = data.reader[Request(draw, 64)].target
        for said in draw.window.utterances:
            assert said.source in target.sources
        assert target.sources[-1] == ""
    batch = data.reader.collate(read_epoch(data))
    assert data.reader.sources == ["", "beeps", "tones"]
    assert set(batch.sources.unique().tolist()) == {0, 1, 2}


def test_what_is_drawn_depends_on_seed_epoch_and_window_alone(
    open_with: Callable[..., Data],
) -> None:
    options = {
        "spec_augment": True,
        "stochastic_depth": 0.5,
        "bpe_dropout": 0.3,
        "noise": 0.5,
        "gain": 0.5,
        "telephone": 0.5,
        "speed": 0.5,
    }

    def read(reader: Reader, requests: list[Request]) -> dict[str, Any]:
        found = {}
        for request in requests:
            sample = reader[request]
            found[request.draw.key] = (
                sample.pcm.tobytes(),
                sample.target,
                sample.masks,
                sample.kept,
            )
        return found

    data, again = open_with(**options), open_with(**options)
    requests = [Request(draw, 448) for draw in data.stream.epoch(1)]
    assert read(data.reader, requests) == read(again.reader, requests[::-1])
    other = open_with(seed=1, **options)
    drawn = {key for key in read(other.reader, [Request(d, 448) for d in other.stream.epoch(1)])}
    assert not drawn & {request.draw.key for request in requests}
