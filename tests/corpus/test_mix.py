"""Mixing: every segment once unless weights and caps say otherwise, and the same draw each time."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.mix import MAX_EPOCHS, Mix, Portion, draw

SOURCES = ("youtube", "common-voice/x", "files")
KINDS = ("subtitle", "pseudo", "review")

portions_of = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.sampled_from(KINDS), st.floats(0.5, 30)), max_size=60
).map(lambda drawn: [Portion(f"s{i}", *values) for i, values in enumerate(drawn)])
numbers = st.dictionaries(st.sampled_from([*SOURCES, *KINDS]), st.floats(0, 8), max_size=3)
mixes = st.builds(Mix, numbers, numbers, numbers, st.floats(1, 5))


def clips(count, source="youtube", kind="pseudo", seconds=3.6):
    return [Portion(f"{source}/{kind}/{i}", source, kind, seconds) for i in range(count)]


def hours(portions, copies, name):
    return sum(
        times * portion.seconds / 3600
        for portion, times in zip(portions, copies, strict=True)
        if name in (portion.source, portion.label_kind)
    )


@given(portions_of, st.integers())
def test_by_default_every_segment_is_taken_once(portions, seed):
    assert draw(portions, Mix(), seed=seed) == ([1] * len(portions), Counter())


@given(portions_of, mixes, st.integers())
def test_caps_are_kept_and_what_is_not_taken_is_counted(portions, mix, seed):
    copies, left_out = draw(portions, mix, seed=seed)
    for name, most in mix.max_hours.items():
        assert hours(portions, copies, name) <= most + 1e-9
    for portion, times in zip(portions, copies, strict=True):
        for name in (portion.source, portion.label_kind):
            assert times <= math.ceil(mix.max_epochs.get(name, 8.0))
    assert sum(left_out.values()) == copies.count(0)


@given(portions_of, mixes, st.integers(), st.randoms())
def test_the_draw_does_not_depend_on_order(portions, mix, seed, rng):
    shuffled = list(portions)
    rng.shuffle(shuffled)
    one = dict(zip(portions, draw(portions, mix, seed=seed).copies, strict=True))
    two = dict(zip(shuffled, draw(shuffled, mix, seed=seed).copies, strict=True))
    assert one == two


def test_weights_are_how_often_segments_are_taken():
    portions = clips(4000) + clips(4000, kind="review") + clips(4000, source="files")
    mix = Mix(weights={"pseudo": 0.5, "review": 2.0, "files": 3.0})
    copies, left_out = draw(portions, mix, seed=1)
    assert set(copies[4000:8000]) == {2}
    assert sum(copies[:4000]) == pytest.approx(2000, rel=0.05)
    assert sum(copies[8000:]) == pytest.approx(6000, rel=0.05)
    assert set(copies[8000:]) == {1, 2}
    assert left_out == {"not drawn: weighted below 1": copies[:4000].count(0)}


def test_another_seed_draws_others_and_other_sources_change_nothing():
    portions, mix = clips(1000), Mix(weights={"youtube": 0.5})
    one = draw(portions, mix, seed=1).copies
    assert draw(portions, mix, seed=2).copies != one
    assert draw(portions + clips(500, source="files"), mix, seed=1).copies[:1000] == one


def test_more_weight_takes_nothing_away():
    portions = clips(1000)
    less, more = (
        draw(portions, Mix(weights={"youtube": weight}), seed=1).copies for weight in (0.5, 0.7)
    )
    assert all(a <= b for a, b in zip(less, more, strict=True))
    assert less != more


def test_temperature_repeats_small_sources_and_leaves_the_largest():
    portions = clips(8000) + clips(2000, source="files")
    copies, left_out = draw(portions, Mix(temperature=2.0), seed=1)
    assert copies[:8000] == [1] * 8000
    assert sum(copies[8000:]) == pytest.approx(4000, rel=0.05)  # shares as the roots: 2 to 1
    assert not left_out


def test_repeats_end_where_they_teach_no_more():
    tiny = clips(8000) + clips(1, source="files")
    assert draw(tiny, Mix(temperature=100.0), seed=1).copies[-1] == MAX_EPOCHS
    capped = Mix(weights={"files": 9.0}, max_epochs={"files": 6.0})
    assert draw(tiny, capped, seed=1).copies[-1] == 6


def test_a_cap_of_hours_takes_repeats_back_first():
    portions = clips(1000)  # an hour
    copies, _ = draw(portions, Mix({"youtube": 2.0}, max_hours={"youtube": 1.5}), seed=1)
    assert set(copies) == {1, 2}
    assert hours(portions, copies, "youtube") == pytest.approx(1.5, abs=0.002)


@pytest.mark.parametrize("mix", [Mix(temperature=0.5), Mix(weights={"files": -1.0})])
def test_numbers_that_mean_nothing_are_refused(mix):
    with pytest.raises(ValueError, match="0 or more"):
        draw(clips(3), mix, seed=0)
