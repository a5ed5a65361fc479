"""The order of training: new neighbours each epoch, no row lost, whatever the split of a step."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.dataset import LabelledSegment, window_row, write_dataset
from corpus.errors import UserError
from train.config import FitConfig
from train.data import open_data
from train.material import Material, Window
from train.model import Whisper, load
from train.stream import Request, Stream, weights_by_temperature
from train.targets import Utterance


@pytest.fixture(scope="module")
def whisper(tiny_model: Path) -> Whisper:
    return load(str(tiny_model))


@pytest.fixture(scope="module")
def open_stream(dataset: Path, whisper: Whisper) -> Callable[..., Stream]:
    def make(**options: Any) -> Stream:
        return open_data(FitConfig((str(dataset),), "m", "o", **options), whisper).stream

    return make


def texts(stream: Stream, epoch: int) -> list[str]:
    return [" | ".join(u.text for u in draw.window.utterances) for draw in stream.epoch(epoch)]


@pytest.mark.parametrize("options", [{}, {"streaming": True}, {"speed": 0.5}])
def test_each_epoch_holds_every_segment_once_beside_new_neighbours(
    open_stream: Callable[..., Stream], options: dict[str, Any]
) -> None:
    stream = open_stream(**options)
    every = sorted(said.text for item in stream.materials[0].items for said in item.utterances)
    for epoch in range(3):
        packed = [text for window in texts(stream, epoch) if window for text in window.split(" | ")]
        assert sorted(packed) == every
    assert texts(stream, 0) != texts(stream, 1)
    assert texts(stream, 1) == texts(stream, 1)


def test_packing_fills_fewer_windows_than_were_built(open_stream: Callable[..., Stream]) -> None:
    assert open_stream().count(1) < open_stream(repack=False).count(1) == 10


def numbered(name: str, count: int, seconds: float = 10.0) -> Material:
    """Whole windows without audio."""
    window = Window(name, "en", (), (Utterance(0, seconds, "one"),), 1, 2)
    return Material([[Window(f"{name}{n}", *_rest(window))] for n in range(count)])


def _rest(window: Window) -> tuple[Any, ...]:
    return (window.language, window.spans, window.utterances, 1, 2)


@settings(deadline=None)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3),
    block=st.sampled_from([None, 1, 4]),
)
def test_every_row_is_trained_on_as_often_as_its_dataset_weighs(
    counts: list[int], weights: list[float], block: int | None
) -> None:
    materials = [numbered(name, count) for name, count in zip("abc", counts, strict=False)]
    stream = Stream(materials, weights[: len(counts)], seed=1, block_units=block)
    epochs = 6
    seen = Counter(draw.window.id for epoch in range(epochs) for draw in stream.epoch(epoch))
    for name, count, weight in zip("abc", counts, weights, strict=False):
        times = [seen[f"{name}{number}"] for number in range(count)]
        assert sum(times) == round(epochs * weight * count)
        assert max(times) - min(times) <= 1


def test_a_row_that_comes_twice_in_an_epoch_is_drawn_anew() -> None:
    stream = Stream([numbered("a", 40)], [2.0], seed=1)
    drawn = [(d.window.id, d.choices) for d in stream.epoch(0) if d.window.speaks]
    assert len(drawn) == 80
    assert len(set(drawn)) > 60


@pytest.mark.parametrize(
    ("recorded", "share"), [(0, 0.01), (4, 0.01), (20, 20 / 1020), (300, 0.03)]
)
@pytest.mark.parametrize("block", [None, 50])
def test_silence_is_one_to_three_of_a_hundred_windows(
    recorded: int, share: float, block: int | None
) -> None:
    quiet = Window("q", "en", (), (Utterance(0, 9, " "),), 0, 0)
    silence = [[replace(quiet, id=f"q{number}")] for number in range(recorded)]
    stream = Stream([Material([*numbered("a", 1000).units, *silence])], [1.0], 1, block)
    found: Counter[str] = Counter()
    windows = 0
    for epoch in range(20):
        draws = list(stream.epoch(epoch))
        windows += len(draws)
        assert sum(draw.window.speaks for draw in draws) == 1000
        found.update(draw.window.id for draw in draws if not draw.window.speaks)
        assert [draw.key for draw in draws] == [draw.key for draw in stream.epoch(epoch)]
    assert found.total() / windows == pytest.approx(share, rel=0.15 if block is None else 0.3)
    # Of what was recorded others are drawn each time; what is made up is never the same again.
    ours = [name for name in found if name.startswith("q")]
    assert 0.7 * recorded <= len(ours) <= recorded
    made = [found[name] for name in found if not name.startswith("q")]
    assert set(made) <= {1}
    assert len(made) > 100 or recorded >= 10


def test_where_nothing_is_ever_said_nothing_is_trained_on(tmp_path: Path, whisper: Whisper) -> None:
    pcm = np.zeros(16_000, np.int16)
    quiet = LabelledSegment(pcm, "", None, "tones", "s", "CC0-1.0", "release", True)
    rows = [window_row("s", [quiet], language="en")]
    write_dataset(tmp_path / "d", {"train": rows}, readme="", attribution="", manifest={})
    with pytest.raises(UserError, match="nothing is said"):
        open_data(FitConfig((str(tmp_path / "d"),), "m", "o"), whisper)


def test_temperature_brings_small_datasets_up_and_loses_no_row() -> None:
    class Hours(Material):
        def __init__(self, hours: float) -> None:
            super().__init__()
            self.hours = hours

        @property
        def seconds(self) -> float:
            return self.hours * 3600

    large, small = Hours(100), Hours(1)
    assert weights_by_temperature([large, small], 1.0) == [1.0, 1.0]
    assert weights_by_temperature([large, small], 2.0) == pytest.approx([1.0, 10.0])


def steps(
    stream: Stream, world: int, micro_batch: int, start: int = 0
) -> Iterator[list[list[Request]]]:
    """For each of steps `start` to 3 the micro-batches of all ranks."""
    ranks = [
        stream.batches(start, 4, batch_size=8, micro_batch=micro_batch, rank=rank, world=world)
        for rank in range(world)
    ]
    for _ in range(start, 4):
        per_rank = 8 // world // micro_batch
        yield [batch for rank in ranks for batch in islice(rank, per_rank)]


def keys(step: list[list[Request]]) -> set[str]:
    return {request.draw.key for batch in step for request in batch}


@pytest.mark.parametrize("streaming", [False, True])
def test_a_step_holds_the_same_windows_however_it_is_divided(
    open_stream: Callable[..., Stream], streaming: bool
) -> None:
    stream = open_stream(streaming=streaming)
    whole = [keys(step) for step in steps(stream, world=1, micro_batch=8)]
    assert [len(step) for step in whole] == [8, 8, 8, 8]
    for world, micro_batch in ((2, 2), (4, 1), (1, 4)):
        assert [keys(step) for step in steps(stream, world, micro_batch)] == whole
    assert [keys(step) for step in steps(stream, 2, 2, start=3)] == whole[3:]


def test_all_processes_pad_a_micro_batch_to_the_same_length() -> None:
    window = Window("w", "en", (), (Utterance(0, 9, "one"),), 1, 2)
    lengths = [20, 300, 90, 350, 33, 120, 250, 60]
    units: list[list[Any]] = [
        [Window(f"w{tokens}", window.language, (), window.utterances, tokens, 2)]
        for tokens in lengths
    ]
    stream = Stream([Material(units)], [1.0], seed=0)
    for step in steps(stream, world=2, micro_batch=2):
        half = len(step) // 2
        padded = [[{request.length for request in batch} for batch in step[:half]]]
        padded.append([{request.length for request in batch} for batch in step[half:]])
        assert padded[0] == padded[1]
        assert all(len(length) == 1 for rank in padded for length in rank)
        # Like goes with like: half of the windows are short, and are not padded to the longest.
        (short,), (long,) = padded[0]
        assert 90 <= short < 104 < 350 <= long < 364
        assert short % 8 == long % 8 == 0
