"""Windows are packed anew each epoch, lose nothing, and keep words in their place."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus.dataset import LabelledSegment, read_split, window_row, write_dataset
from corpus.errors import UserError
from train.data import Material, Reader, Stream, collect, open_split, read_flac
from train.targets import Utterance, Vocabulary

SAMPLE_RATE = 16_000


@pytest.fixture(scope="module")
def vocabulary(tokenizer: Any) -> Vocabulary:
    return Vocabulary.from_tokenizer(tokenizer)


def gather(rows: Any, tokenizer: Any, vocabulary: Vocabulary, **options: Any) -> Material:
    return collect(
        rows.remove_columns("audio"),
        vocabulary,
        lambda text: tokenizer.encode(text, add_special_tokens=False),
        **options,
    )


@pytest.fixture(scope="module")
def rows(dataset: Path) -> Any:
    return read_split(dataset, "train")


@pytest.fixture(scope="module")
def material(rows: Any, tokenizer: Any, vocabulary: Vocabulary) -> Material:
    return gather(rows, tokenizer, vocabulary)


def texts(material: Material, epoch: int) -> list[str]:
    windows = material.epoch(0, epoch)
    return [" | ".join(u.text for u in window.utterances) for window in windows]


def test_each_epoch_holds_every_segment_once_beside_new_neighbours(
    rows: Any, material: Material
) -> None:
    every = sorted(segment["text"] for row in rows for segment in row["segments"])
    for epoch in range(3):
        packed = texts(material, epoch)
        assert sorted(itertools.chain(*(text.split(" | ") for text in packed))) == every
    assert texts(material, 0) != texts(material, 1)
    assert texts(material, 1) == texts(material, 1)


def test_packing_fills_fewer_windows_than_were_built(rows: Any, material: Material) -> None:
    assert len(material.epoch(0, 0)) < len(rows)


def test_rows_with_previous_text_stay_as_they_were_built(rows: Any, material: Material) -> None:
    kept = {row["id"] for row in rows if row["previous_text"]}
    assert kept
    assert {window.id for window in material.whole} == kept


def test_previous_text_has_timestamps_where_its_own_segment_is_in_the_data(
    tmp_path: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    def row(name: str, text: str, previous: str | None) -> Any:
        pcm = np.full(2 * SAMPLE_RATE, 100, np.int16)
        segment = LabelledSegment(pcm, text, None, "tones", name, "CC0-1.0", "release", True)
        return window_row(name, [segment], language="en", previous_text=previous)

    rows = [
        row("a@2000-4000", "two", "one"),
        row("a@0-2000", "one", None),
        row("b@2000-4000", "two", "one"),  # the same text, but said in another recording
    ]
    write_dataset(tmp_path / "d", {"train": rows}, readme="", attribution="", manifest={})
    material = gather(open_split([tmp_path / "d"], "train"), tokenizer, vocabulary)
    assert {window.id: window.previous for window in material.whole} == {
        "a@2000-4000": Utterance(0.0, 2.0, "one"),
        "b@2000-4000": Utterance(0.0, None, "one"),
    }


def test_windows_without_speech_are_kept(
    tmp_path: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    silence = LabelledSegment(
        np.zeros(SAMPLE_RATE, np.int16), "", None, "tones", "s", "CC0-1.0", "release", True
    )
    row = window_row("silence", [silence], language="en")
    write_dataset(tmp_path / "d", {"train": [row]}, readme="", attribution="", manifest={})
    material = gather(open_split([tmp_path / "d"], "train"), tokenizer, vocabulary)
    assert [window.id for window in material.epoch(0, 0)] == ["silence"]


def test_several_datasets_are_one_material(
    dataset: Path, material: Material, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    both = gather(open_split([dataset, dataset], "train"), tokenizer, vocabulary)
    assert len(both.clips) == 2 * len(material.clips)
    assert len(both.whole) == 2 * len(material.whole)


def test_without_repacking_all_windows_are_as_built(
    rows: Any, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    material = gather(rows, tokenizer, vocabulary, repack=False)
    assert {window.id for window in material.epoch(0, 0)} == set(rows["id"])


def test_the_audio_of_every_utterance_lies_where_its_timestamps_say(
    rows: Any, material: Material, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    source = {
        segment["text"] + row["id"]: read_flac(
            row["audio"]["bytes"],
            round(segment["start"] * SAMPLE_RATE),
            round(segment["end"] * SAMPLE_RATE),
        )
        for row in rows
        for segment in row["segments"]
    }
    reader = Reader(rows, vocabulary, tokenizer.encode, seed=0, language_token=None)
    for window in material.epoch(0, 0):
        pcm, _, seconds = reader[(0, window)]
        assert pcm.dtype == np.int16
        assert pcm.shape == (480_000,)
        end = max(utterance.end or 0.0 for utterance in window.utterances)
        assert seconds - 1e-6 <= end <= 30
        assert not pcm[round(end * SAMPLE_RATE) :].any()
        for utterance, span in zip(window.utterances, window.spans, strict=False):
            if len(window.spans) != len(window.utterances):
                break  # a row as built: its audio is one stretch
            assert (utterance.start * 50) == pytest.approx(round(utterance.start * 50))
            begin = round(utterance.start * SAMPLE_RATE)
            expected = source[utterance.text + rows[span.row]["id"]]
            np.testing.assert_array_equal(pcm[begin : begin + expected.size], expected)


def test_a_step_holds_the_same_windows_however_it_is_divided(material: Material) -> None:
    stream = Stream(material, seed=0)

    def steps(world: int, micro_batch: int, start: int = 0) -> list[set[str]]:
        ranks = [
            list(
                stream.batches(
                    start, 4, batch_size=8, micro_batch=micro_batch, rank=rank, world=world
                )
            )
            for rank in range(world)
        ]
        per_step = 8 // world // micro_batch
        return [
            {
                f"{epoch}:{window.id}"
                for batches in ranks
                for batch in batches[step * per_step : (step + 1) * per_step]
                for epoch, window in batch
            }
            for step in range(4 - start)
        ]

    whole = steps(world=1, micro_batch=8)
    assert [len(step) for step in whole] == [8, 8, 8, 8]
    assert steps(world=2, micro_batch=2) == whole
    assert steps(world=4, micro_batch=1) == whole
    assert steps(world=2, micro_batch=2, start=3) == whole[3:]


def test_a_batch_is_padded_to_a_multiple_of_64_and_the_padding_has_no_loss(
    rows: Any, material: Material, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    reader = Reader(rows, vocabulary, encode, seed=0, language_token=None)
    items = [reader[(0, window)] for window in material.epoch(0, 0)]
    batch = reader.collate(items)
    assert batch.labels.shape == batch.decoder_input_ids.shape
    assert batch.labels.shape[1] % 64 == 0
    assert batch.tokens == sum(label != -100 for _, target, _ in items for label in target.labels)
    for row, (_, target, _) in enumerate(items):
        length = len(target.labels)
        # The true <|endoftext|> keeps its loss although padding is the same token.
        assert batch.labels[row, length - 1] == vocabulary.end
        assert (batch.labels[row, length:] == -100).all()
        assert (batch.decoder_input_ids[row, length:] == vocabulary.end).all()


def test_texts_too_long_for_the_decoder_are_left_out_and_counted(
    tmp_path: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    def segment(text: str) -> LabelledSegment:
        pcm = np.zeros(SAMPLE_RATE, np.int16)
        return LabelledSegment(pcm, text, None, "tones", text[:9], "CC0-1.0", "release", True)

    row = window_row("w", [segment("one two"), segment("seven " * 600)], language="en")
    write_dataset(tmp_path / "d", {"train": [row]}, readme="", attribution="", manifest={})
    rows = open_split([tmp_path / "d"], "train")
    material = gather(rows, tokenizer, vocabulary)
    assert [c.utterances[0].text for c in material.clips.values()] == ["one two"]
    assert material.dropped.total() == 1
    assert gather(rows, tokenizer, vocabulary, repack=False).dropped.total() == 1


def test_an_unknown_language_stops_the_run_before_it_starts(
    dataset: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    rows = read_split(dataset, "train").map(lambda row: {"language": "sk"})
    with pytest.raises(UserError, match="'sk'"):
        gather(rows, tokenizer, vocabulary)
    assert gather(rows, tokenizer, vocabulary, language_token="cs").clips


def test_consecutive_segments_of_one_recording_stay_together_with_their_pauses(
    tmp_path: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    def said(text: str, segment: str, pause_samples: int = 0) -> LabelledSegment:
        pcm = np.full(SAMPLE_RATE, 100, np.int16)
        known = (text, "v", "tones", segment, "CC0-1.0", "release", True)
        return LabelledSegment(pcm, *known, pause_samples=pause_samples)

    row = window_row(
        "window",
        [said("one", "a@0-1", 320), said("two", "a@1-2"), said("two one", "b@0-1")],
        language="en",
    )
    write_dataset(tmp_path / "d", {"train": [row]}, readme="", attribution="", manifest={})
    material = gather(open_split([tmp_path / "d"], "train"), tokenizer, vocabulary)
    spoken = [[(u.start, u.end, u.text) for u in c.utterances] for c in material.clips.values()]
    assert spoken == [[(0.0, 0.98, "one"), (1.0, 2.0, "two")], [(0.0, 1.0, "two one")]]
    (window,) = material.epoch(0, 0)
    assert [u.start for u in window.utterances] == [0.0, 1.0, 2.0]
    assert {u.text for u in window.utterances} == {"one", "two", "two one"}
