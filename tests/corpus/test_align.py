"""Words heard against words subtitled: timing of a track, bounds of segments, shares of a text."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.align import (
    MAX_SHIFT_MS,
    Stretch,
    Word,
    fit_timing,
    match,
    repair_bounds,
    share_text,
    units,
)
from corpus.segment import MAX_SECONDS, Span

VOCABULARY = [f"{a}{b}" for a in ("ka", "mo", "ri", "te", "su", "lo") for b in "abcdefghij"]
FRAME_RATES = [1.0, 25 / 24, 24 / 25, 25 / 23.976, 23.976 / 25, 1.001]


def talk(seed: int, cues: int = 60, spacing: int = 300) -> tuple[list[Span], list[Word]]:
    """True cues, and the words in them: heard with an error of some 60 ms, a fifth of them wrongly,
    and a tenth not at all."""
    rng = random.Random(seed)
    at, track, words = 5000, [], []
    for _ in range(cues):
        start = at
        said = rng.choices(VOCABULARY, k=rng.randint(2, 9))
        for text in said:
            end = at + rng.randint(250, 450)
            if rng.random() > 0.1:
                heard = rng.choice(VOCABULARY) if rng.random() < 0.2 else text
                jitter = round(rng.gauss(0, 60))
                words.append(Word(at + jitter, end + jitter, heard, rng.uniform(0.5, 1)))
            at = end
        track.append(Span(start, at, " ".join(said) + "."))
        at += rng.randint(0, 2 * spacing)
    return track, words


def retimed(cues: list[Span], offset: int, scale: float) -> list[Span]:
    return [
        Span(round(c.start_ms * scale) + offset, round(c.end_ms * scale) + offset, c.text)
        for c in cues
    ]


class TestFitTiming:
    @given(st.integers(0, 50), st.integers(-90_000, 90_000), st.sampled_from(FRAME_RATES))
    def test_a_late_or_stretched_track_comes_back_to_its_words(
        self, seed: int, offset: int, scale: float
    ) -> None:
        true, heard = talk(seed)
        track = retimed(true, offset, scale)
        fit = fit_timing(track, heard)
        assert fit is not None
        assert fit.residual_ms < 150
        for cue, original in zip(track, true, strict=True):
            assert fit(cue.start_ms) == pytest.approx(original.start_ms, abs=250)

    @given(st.integers(0, 50))
    def test_a_track_in_time_is_told_to_be_so(self, seed: int) -> None:
        track, heard = talk(seed)
        fit = fit_timing(track, heard)
        assert fit is not None
        assert not fit.moves(track)

    def test_a_model_that_doubts_everything_is_still_of_use(self) -> None:
        true, heard = talk(1)
        doubtful = [word._replace(probability=word.probability / 4) for word in heard]
        fit = fit_timing(retimed(true, 4000, 1.0), doubtful)
        assert fit is not None
        assert fit.offset_ms == pytest.approx(-4000, abs=150)

    @given(st.integers(0, 100), st.sampled_from([6, 20, 100]))
    def test_another_text_tells_nothing(self, seed: int, cues: int) -> None:
        track, _ = talk(seed, cues)
        _, heard = talk(seed + 1000, cues)
        assert fit_timing(track, heard) is None

    def test_a_part_that_was_cut_out_is_no_drift(self) -> None:
        true, heard = talk(3, cues=200)
        middle = true[100].start_ms
        track = [
            Span(c.start_ms + 20_000 * (c.start_ms >= middle), c.end_ms + 20_000, c.text)
            for c in true
        ]
        fit = fit_timing(track, heard)
        assert fit is None or fit.scale == 1.0

    def test_no_cues_and_nothing_heard_tell_nothing(self) -> None:
        assert fit_timing([], []) is None
        assert fit_timing([Span(0, 1000, "some words")], []) is None

    def test_a_script_without_spaces_is_matched_by_characters(self) -> None:
        text = "我们今天在这里说话然后大家一起回家吃饭睡觉明天再来学习"
        cues = [Span(4000 * i + 7000, 4000 * i + 10_000, text[3 * i : 3 * i + 3]) for i in range(9)]
        heard = [
            Word(4000 * i + 1000 * k, 4000 * i + 1000 * (k + 1), text[3 * i + k])
            for i in range(9)
            for k in range(3)
        ]
        fit = fit_timing(cues, heard)
        assert fit is not None
        assert (fit.offset_ms, fit.anchors) == (-7000, 9)


def test_words_are_matched_without_case_and_punctuation_in_their_order() -> None:
    said = units([Word(0, 1000, "Well, it’s a Fine Day!")])
    heard = units(Word(0, 0, text) for text in ["its", "a", "nice", "day"])
    assert [(p.said, p.heard) for p in match(said, heard)] == [(1, 0), (2, 1), (4, 3)]
    assert [unit.text for unit in said] == ["well", "its", "a", "fine", "day"]
    assert said[0].start_ms == 0
    assert said[-1].end_ms == 1000


def words_at(text: str, start: int, step: int = 400, probability: float = 0.9) -> list[Word]:
    return [
        Word(start + step * k, start + step * (k + 1), word, probability)
        for k, word in enumerate(text.split())
    ]


class TestRepairBounds:
    def test_a_word_that_the_segment_before_holds_is_taken_from_it(self) -> None:
        first, second = "one two three four", "five six seven eight"
        heard = [*words_at(first, 1000), *words_at(second, 3000)]
        # The first segment reaches over "five", the second begins too late.
        segments = [Stretch(900, 3400, first), Stretch(3500, 5000, second)]
        (_, end), (start, _) = repair_bounds(segments, heard, duration_ms=10_000)
        assert 2600 <= end <= start <= 3000

    def test_bounds_that_fit_stay(self) -> None:
        first, second = "one two three four", "five six seven eight"
        heard = [*words_at(first, 1000), *words_at(second, 3000)]
        segments = [Stretch(900, 2800, first), Stretch(2900, 4800, second)]
        assert repair_bounds(segments, heard, duration_ms=10_000) == [(900, 2800), (2900, 4800)]

    def test_silence_around_the_words_stays(self) -> None:
        heard = words_at("one two three", 2000)
        segments = [Stretch(1000, 4500, "one two three", heard)]
        assert repair_bounds(segments, heard, duration_ms=9000) == [(1000, 4500)]

    def test_what_others_say_before_the_text_is_cut_off(self) -> None:
        text = "five six seven eight"
        heard = [*words_at("so who knows", 1000), *words_at(text, 2200)]
        segments = [Stretch(900, 4000, text, words_at(text, 2200))]
        (start, _), *_ = repair_bounds(segments, heard, duration_ms=10_000)
        assert start == 2200  # no padding into the word before

    def test_an_improbable_alignment_moves_nothing(self) -> None:
        good = Stretch(0, 3000, "one two three", words_at("one two three", 100))
        # Its words are heard as others, and aligned without any confidence.
        bad = Stretch(4000, 8000, "five six seven", words_at("five six seven", 5200, 400, 0.05))
        heard = words_at("one two three", 100)
        heard += [*words_at("yes", 4100), *words_at("what was that", 5200)]
        assert repair_bounds([good, bad], heard, duration_ms=9000)[1] == (4000, 8000)
        sure = Stretch(4000, 8000, "five six seven", words_at("five six seven", 5200, 400, 0.6))
        assert repair_bounds([good, sure], heard, duration_ms=9000)[1] == (5100, 8000)

    def test_a_word_heard_far_away_moves_nothing(self) -> None:
        heard = [*words_at("one", 1000), *words_at("two three four", 6000)]
        segments = [Stretch(5900, 7300, "one two three four")]
        assert repair_bounds(segments, heard, duration_ms=9000)[0][0] == 5900

    def test_what_a_person_decided_on_stays(self) -> None:
        heard = words_at("one two three", 1000)
        fixed = Stretch(1900, 2000, "one two three", fixed=True)
        assert repair_bounds([fixed], heard, duration_ms=9000) == [(1900, 2000)]
        free = Stretch(1900, 2000, "one two three")
        assert repair_bounds([free], heard, duration_ms=9000) == [(900, 2500)]

    @given(st.integers(0, 10_000))
    def test_segments_stay_apart_inside_short_enough_and_near_where_they_were(
        self, seed: int
    ) -> None:
        rng = random.Random(seed)
        true, heard = talk(seed, cues=20, spacing=rng.choice([50, 300, 3000]))
        segments, at = [], 0
        for cue in true:
            start = max(at, cue.start_ms + rng.randint(-2000, 2000))
            at = max(start + 1, cue.end_ms + rng.randint(-2000, 2000))
            words = words_at(cue.text, start, 300, rng.random()) if rng.random() < 0.7 else []
            segments.append(Stretch(start, at, cue.text, words))
        new = repair_bounds(segments, heard, duration_ms=at)
        assert all(0 <= a < b <= at for a, b in new)
        assert all(b - a <= MAX_SECONDS * 1000 for a, b in new)
        assert all(a[1] <= b[0] for a, b in pairwise(new))
        for old, (start, end) in zip(segments, new, strict=True):
            assert abs(start - old.start_ms) <= MAX_SHIFT_MS
            assert abs(end - old.end_ms) <= MAX_SHIFT_MS


class TestShareText:
    def test_each_stretch_gets_what_is_said_in_it_as_it_is_written(self) -> None:
        text = "“Well,” she said – and left. Nobody came; nobody asked! The end."
        heard = ["well she set and left", "no body came nobody asked", "the end"]
        assert share_text(text, [words_at(part, 0) for part in heard]) == [
            "“Well,” she said – and left.",
            "Nobody came; nobody asked!",
            "The end.",
        ]

    def test_a_stretch_that_says_something_else_gets_nothing(self) -> None:
        text = "one two three four five six seven eight"
        heard = ["one two three four", "la la la la la", "five six seven eight"]
        shares = share_text(text, [words_at(part, 0) for part in heard])
        assert shares == ["one two three four", None, "five six seven eight"]

    def test_where_nothing_agrees_nobody_gets_anything(self) -> None:
        assert share_text("one two", [words_at("three four", 0), []]) == [None, None]

    @given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 1000))
    def test_what_is_heard_well_is_shared_without_loss(self, sizes: list[int], seed: int) -> None:
        rng = random.Random(seed)
        parts = [" ".join(rng.sample(VOCABULARY, size)) for size in sizes]
        shares = share_text(" ".join(parts), [words_at(part, 0) for part in parts])
        assert shares == parts

    def test_a_script_without_spaces_is_shared_between_characters(self) -> None:
        shares = share_text(
            "今天天气很好，我们去公园。", [[Word(0, 1, "今天天气很好")], [Word(2, 3, "我们去公园")]]
        )
        assert shares == ["今天天气很好，", "我们去公园。"]
