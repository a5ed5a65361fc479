"""Packing: every piece once, no window over its limits, the same plan from the same seed."""

import csv
import itertools
import math
import random
import time
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus.pack import (
    MAX_TOKENS,
    SPECIAL_TOKENS,
    TIMESTAMP_TOKENS,
    WINDOW_SECONDS,
    Piece,
    fill,
    grid_steps,
    pack,
    pack_by_speaker,
    token_bound,
)

ROOM_TOKENS = MAX_TOKENS - SPECIAL_TOKENS - TIMESTAMP_TOKENS


@st.composite
def corpora(draw):
    sizes = st.tuples(
        st.floats(0.001, WINDOW_SECONDS),
        st.integers(0, ROOM_TOKENS),
        st.sampled_from(["cs", "ka", "yue"]),
    )
    return [Piece(str(i), *size) for i, size in enumerate(draw(st.lists(sizes, max_size=60)))]


def clips(count, *, mean_log=1.55, sd_log=0.35, tokens_per_second=6.2, seed=0):
    """Durations as Common Voice has them: lognormal, median 4.7 s, 1 to 15 s."""
    rng = random.Random(seed)
    for index in range(count):
        seconds = min(15.0, max(1.0, rng.lognormvariate(mean_log, sd_log)))
        yield Piece(f"clip{index}", seconds, round(seconds * tokens_per_second), "cs")


@given(corpora(), st.integers(), st.integers(1, 20))
def test_every_piece_comes_out_exactly_once(pieces, seed, pool):
    packed = itertools.chain.from_iterable(pack(pieces, seed=seed, pool=pool))
    assert Counter(packed) == Counter(pieces)


@given(corpora(), st.integers(), st.integers(1, 20))
def test_no_window_exceeds_the_encoder_or_the_decoder(pieces, seed, pool):
    for window in pack(pieces, seed=seed, pool=pool):
        assert sum(grid_steps(piece.seconds) for piece in window) <= 1500
        labels = SPECIAL_TOKENS + sum(TIMESTAMP_TOKENS + piece.tokens for piece in window)
        assert labels <= MAX_TOKENS


@given(corpora(), st.integers())
def test_a_window_has_one_language(pieces, seed):
    for window in pack(pieces, seed=seed):
        assert len({piece.language for piece in window}) == 1


@given(corpora(), st.integers())
def test_the_same_seed_gives_the_same_plan(pieces, seed):
    assert list(pack(pieces, seed=seed)) == list(pack(pieces, seed=seed))


def test_another_seed_gives_another_plan():
    pieces = list(clips(1000))
    first, second = ({frozenset(window) for window in pack(pieces, seed=seed)} for seed in (1, 2))
    assert len(first & second) < 0.1 * len(first)


def test_other_limits_than_whispers_are_kept():
    for window in pack(clips(500), seed=0, max_seconds=20.0, max_tokens=100):
        assert sum(piece.seconds for piece in window) <= 20.0
        assert SPECIAL_TOKENS + sum(TIMESTAMP_TOKENS + p.tokens for p in window) <= 100


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 1.9), st.floats(0.25, 0.5), st.integers())
def test_lognormal_clips_fill_at_least_95_percent(mean_log, sd_log, seed):
    pieces = clips(4000, mean_log=mean_log, sd_log=sd_log, seed=seed)
    assert fill(pack(pieces, seed=seed)).fill >= 0.95


def test_a_token_heavy_script_fills_the_decoder_instead():
    """At Georgian's 25 tokens a second 448 tokens are full after 18 s."""
    windows = list(pack(clips(4000, tokens_per_second=25), seed=0))
    labels = sum(sum(TIMESTAMP_TOKENS + piece.tokens for piece in window) for window in windows)
    assert labels / (len(windows) * (MAX_TOKENS - SPECIAL_TOKENS)) >= 0.93


def test_a_hundred_thousand_pieces_take_seconds():
    pieces = list(clips(100_000))
    start = time.process_time()
    assert fill(pack(pieces, seed=0)).pieces == 100_000
    assert time.process_time() - start < 10


@pytest.mark.parametrize("release", ["ckb_train", "ko_train", "zh-TW_other"])
def test_no_real_sentence_of_a_script_of_two_or_three_bytes_is_lost(shared_data, release):
    lines = (shared_data / f"cv_meta/sentences/{release}.tsv").read_text(encoding="utf-8")
    rows = csv.DictReader(lines.split("\n"), delimiter="\t", quoting=csv.QUOTE_NONE)
    durations = shared_data / "cv_meta/durations/common_voice_id_seconds.txt"
    pieces = [
        Piece(row["path"], float(seconds), token_bound(row["sentence"]), "xx", row["client_id"])
        for row, seconds in zip(rows, durations.read_text().split(), strict=False)
    ]
    windows = list(pack_by_speaker(pieces, seed=0))
    assert Counter(itertools.chain.from_iterable(windows)) == Counter(pieces)
    for window in windows:
        labels = SPECIAL_TOKENS + sum(TIMESTAMP_TOKENS + piece.tokens for piece in window)
        assert labels <= MAX_TOKENS


def test_windows_come_out_of_an_endless_stream():
    endless = (Piece(str(i), 1 + i % 7, 20, "cs") for i in itertools.count())
    windows = list(itertools.islice(pack(endless, seed=0, pool=64), 100))
    assert max(int(piece.id) for window in windows for piece in window) < 100 * 30 + 64


def test_no_piece_waits_for_ever():
    """A long piece that nothing can join still leaves soon after it came."""
    pieces = [Piece("long", 29.9, 10, "cs"), *clips(3000)]
    ids = [[piece.id for piece in window] for window in pack(pieces, seed=0, pool=64)]
    assert ["long"] in ids[:64]


def test_short_pieces_are_not_always_last_in_their_window():
    windows = [window for window in pack(clips(2000), seed=0) if len(window) > 1]
    shortest_last = sum(min(w, key=lambda p: p.seconds) is w[-1] for w in windows)
    assert shortest_last < 0.4 * len(windows)


@pytest.mark.parametrize(
    ("seconds", "steps"),
    [(0.02, 1), (0.14, 7), (0.58, 29), (0.0201, 2), (4.644, 233), (29.981, 1500), (30.0, 1500)],
)
def test_a_length_is_rounded_up_to_the_timestamp_grid(seconds, steps):
    assert grid_steps(seconds) == steps


@given(st.integers(1, 480_000))
def test_a_length_in_samples_takes_as_many_steps_as_its_padding(samples):
    assert grid_steps(samples / 16_000) == -(-samples // 320)


@pytest.mark.parametrize(
    ("seconds", "tokens", "words"),
    [
        (30.01, 10, "longer than 30.0 s"),
        (math.inf, 10, "longer than 30.0 s"),
        (0.0, 10, "0.0 s cannot be packed"),
        (math.nan, 10, "cannot be packed"),
        (5.0, ROOM_TOKENS + 1, f"{ROOM_TOKENS + 1} tokens"),
    ],
)
def test_a_piece_that_fits_no_window_is_named(seconds, tokens, words):
    with pytest.raises(ValueError, match=f"cs/17: .*{words}"):
        list(pack([Piece("cs/17", seconds, tokens, "cs")], seed=0))


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level BPE that has learned next to nothing, so that most bytes stay single tokens."""
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer(add_prefix_space=True)
    bpe.train_from_iterator(["the cat sat on the mat"], vocab_size=270, show_progress=False)
    return bpe


@given(st.text())
def test_no_byte_level_tokenizer_exceeds_the_token_bound(tokenizer, text):
    assert len(tokenizer.encode(text).ids) <= token_bound(text)


def test_the_token_bound_is_reached_where_each_byte_is_a_token(tokenizer):
    assert len(tokenizer.encode("ქართული").ids) == token_bound("ქართული") == 3 * 7 + 1


def test_no_windows_have_no_fill():
    assert fill([]).windows == 0
    assert fill([]).fill == 0.0


def test_fill_counts_speech_against_whole_windows():
    one, two = Piece("a", 15.0, 1, "cs"), Piece("b", 30.0, 1, "cs")
    stats = fill([(one,), (two,)])
    assert (stats.windows, stats.pieces, stats.seconds) == (2, 2, 45.0)
    assert (stats.fill, stats.low_fill, stats.pieces_per_window) == (0.75, 0.5, 1.0)


@st.composite
def spoken(draw):
    speakers = st.sampled_from(["one", "two", None])
    pieces = [piece._replace(speaker=draw(speakers)) for piece in draw(corpora())]
    return sorted(pieces, key=lambda piece: piece.speaker or "")


@given(spoken(), st.integers(), st.floats(0, 0.9), st.floats(0, 2))
def test_speaker_first_windows_lose_nothing_and_keep_the_limits(pieces, seed, share, gap):
    windows = list(pack_by_speaker(pieces, seed=seed, single_share=share, gap_seconds=gap))
    assert Counter(itertools.chain.from_iterable(windows)) == Counter(pieces)
    for window in windows:
        steps = sum(grid_steps(piece.seconds) for piece in window)
        assert steps + grid_steps(gap) * (len(window) - 1) <= 1500
        labels = SPECIAL_TOKENS + sum(TIMESTAMP_TOKENS + piece.tokens for piece in window)
        assert labels <= MAX_TOKENS
        assert len({piece.language for piece in window}) == 1
    again = pack_by_speaker(pieces, seed=seed, single_share=share, gap_seconds=gap)
    assert list(again) == windows


def test_most_speech_is_in_windows_of_one_speaker_and_they_are_as_full():
    pieces = [
        piece._replace(speaker=f"speaker{index // 40}") for index, piece in enumerate(clips(20_000))
    ]
    windows = list(pack_by_speaker(pieces, seed=0))
    alone = sum(p.seconds for w in windows if len({p.speaker for p in w}) == 1 for p in w)
    assert alone >= 0.85 * sum(piece.seconds for piece in pieces)
    assert fill(windows).fill >= 0.975


def test_single_clip_windows_have_their_share():
    windows = list(pack(clips(20_000), seed=0, single_share=0.1))
    assert sum(len(window) == 1 for window in windows) / len(windows) == pytest.approx(
        0.1, abs=0.02
    )
