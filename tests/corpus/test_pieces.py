"""Small pieces of sound: what pydub is given and what comes back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.audio import SAMPLE_RATE, Pcm
from corpus.pieces import faded, levelled, speech_bounds


def tone(seconds: float, level: float) -> Pcm:
    times = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (level * np.sin(2 * np.pi * 220 * times)).astype(np.int16)


def quiet(seconds: float) -> Pcm:
    """A room without speech, some 55 dB under full speech."""
    noise = np.random.default_rng(0).normal(scale=15, size=round(seconds * SAMPLE_RATE))
    return noise.astype(np.int16)


class TestSpeechBounds:
    def test_silence_at_the_ends_goes_but_for_a_rest(self) -> None:
        pcm = np.concatenate([quiet(1.0), tone(2.0, 12_000), quiet(1.5)])
        start, end = speech_bounds(pcm)
        assert start == pytest.approx(900, abs=20)
        assert end == pytest.approx(3300, abs=20)

    def test_a_pause_within_stays(self) -> None:
        pcm = np.concatenate([tone(0.5, 12_000), quiet(2.0), tone(0.5, 12_000)])
        assert speech_bounds(pcm) == (0, 3000)

    def test_a_weak_ending_is_speech(self) -> None:
        pcm = np.concatenate([tone(1.0, 12_000), tone(0.4, 300), quiet(2.0)])
        assert speech_bounds(pcm)[1] >= 1400

    @pytest.mark.parametrize("pcm", [np.zeros(16_000, np.int16), np.zeros(0, np.int16)])
    def test_where_nothing_is_heard_nothing_is_cut(self, pcm: Pcm) -> None:
        assert speech_bounds(pcm) == (0, pcm.size * 1000 // SAMPLE_RATE)

    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(st.floats(0.01, 1.0), st.integers(0, 32_000)), max_size=5))
    def test_the_bounds_lie_inside_and_in_order(self, parts: list[tuple[float, int]]) -> None:
        pcm = np.concatenate([np.zeros(0, np.int16), *(tone(s, level) for s, level in parts)])
        start, end = speech_bounds(pcm)
        assert 0 <= start <= end <= pcm.size * 1000 // SAMPLE_RATE


class TestLevelled:
    def test_quiet_and_loud_pieces_come_out_equally_loud(self) -> None:
        soft, loud = levelled(tone(1.0, 200)), levelled(tone(1.0, 20_000))
        assert np.abs(soft.astype(int)).max() == pytest.approx(29_200, rel=0.02)
        assert np.abs(loud.astype(int)).max() == pytest.approx(29_200, rel=0.02)

    def test_the_length_stays_and_silence_stays_silent(self) -> None:
        for pcm in (np.zeros(16_001, np.int16), np.zeros(0, np.int16)):
            assert np.array_equal(levelled(pcm), pcm)
        assert levelled(tone(0.33335, 100)).size == tone(0.33335, 100).size


def test_a_fade_changes_only_five_milliseconds_of_an_edge() -> None:
    pcm = np.full(16_003, 10_000, np.int16)
    into, out = faded(pcm, into=True, out=False), faded(pcm, into=False, out=True)
    assert max(into[0], out[-1]) < 200
    assert np.array_equal(into[80:], pcm[80:])
    assert np.array_equal(out[:-80], pcm[:-80])
    assert np.array_equal(faded(pcm, into=False, out=False), pcm)
    assert np.array_equal(faded(pcm[:100], into=True, out=True), pcm[:100])
