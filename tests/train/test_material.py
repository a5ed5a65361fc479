"""Rows are taken apart where nothing is lost by it, and what fits nowhere is counted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.dataset import LabelledSegment, read_split, window_row, write_dataset
from corpus.errors import UserError
from train.material import Clip, Material, Span, Window, collect, join
from train.rows import open_split
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


def whole(material: Material) -> list[Window]:
    return [item for item in material.items if isinstance(item, Window)]


def clips(material: Material) -> list[Clip]:
    return [item for item in material.items if isinstance(item, Clip)]


@pytest.fixture(scope="module")
def rows(dataset: Path) -> Any:
    return read_split(dataset, "train")


@pytest.fixture(scope="module")
def material(rows: Any, tokenizer: Any, vocabulary: Vocabulary) -> Material:
    return gather(rows, tokenizer, vocabulary)


def test_every_segment_is_in_the_material_once(rows: Any, material: Material) -> None:
    every = sorted(segment["text"] for row in rows for segment in row["segments"])
    found = [said.text for item in material.items for said in item.utterances]
    assert sorted(found) == every


def test_rows_with_previous_text_stay_as_they_were_built(rows: Any, material: Material) -> None:
    kept = {row["id"] for row in rows if row["previous_text"]}
    assert kept
    assert {window.id for window in whole(material)} == kept


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
    assert {window.id: window.previous for window in whole(material)} == {
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
    assert [window.id for window in whole(material)] == ["silence"]


def test_without_repacking_all_windows_are_as_built(
    rows: Any, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    material = gather(rows, tokenizer, vocabulary, repack=False)
    assert not clips(material)
    assert {window.id for window in whole(material)} == set(rows["id"])


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
    assert [c.utterances[0].text for c in clips(material)] == ["one two"]
    assert material.dropped.total() == 1
    assert gather(rows, tokenizer, vocabulary, repack=False).dropped.total() == 1


def test_an_unknown_language_stops_the_run_before_it_starts(
    dataset: Path, tokenizer: Any, vocabulary: Vocabulary
) -> None:
    rows = read_split(dataset, "train").map(lambda row: {"language": "sk"})
    with pytest.raises(UserError, match="'sk'"):
        gather(rows, tokenizer, vocabulary)
    assert clips(gather(rows, tokenizer, vocabulary, language_token="cs"))


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
    spoken = [[(u.start, u.end, u.text) for u in c.utterances] for c in clips(material)]
    assert spoken == [[(0.0, 0.98, "one"), (1.0, 2.0, "two")], [(0.0, 1.0, "two one")]]
    window = join(clips(material))
    assert [u.start for u in window.utterances] == [0.0, 1.0, 2.0]
    assert [u.text for u in window.utterances] == ["one", "two", "two one"]


@given(speed=st.floats(0.9, 1.1))
def test_speech_that_is_played_faster_keeps_its_times(material: Material, speed: float) -> None:
    for item in material.items:
        changed = item.faster(speed)
        for before, after in zip(item.utterances, changed.utterances, strict=True):
            assert after.start == pytest.approx(before.start / speed)
            assert after.end == pytest.approx((before.end or 0.0) / speed)
    longest = Window("w", "en", (Span(0, 0, 480_000, 0),), (Utterance(0, 30, "one"),), 1, 2)
    assert longest.faster(speed).seconds <= 30.0
    assert (longest.faster(speed).utterances[0].end or 0) <= 30.0
