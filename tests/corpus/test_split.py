"""Splits: whole groups, the same ones each time, and nothing of train in dev or test."""

from hypothesis import example, given
from hypothesis import strategies as st

from corpus.split import assign_splits, carve

HOUR = 3600.0

group_seconds = st.dictionaries(st.text(min_size=1), st.floats(1, 5 * HOUR), max_size=40)


def assign(groups, *, dev=HOUR, test=HOUR, salt="s", fixed=None):
    return assign_splits(groups, dev_seconds=dev, test_seconds=test, salt=salt, fixed=fixed)


def seconds_of(groups, splits, name):
    return sum(groups[group] for group, split in splits.items() if split == name)


@given(group_seconds)
def test_every_group_has_one_split_and_train_is_never_empty(groups):
    splits, _ = assign(groups)
    assert splits.keys() == groups.keys()
    assert not groups or "train" in splits.values()


@given(group_seconds)
@example({"0": 1.0, "00": 1.0, "000": 1.0})  # alike, and none small enough
def test_the_order_in_which_groups_come_does_not_matter(groups):
    assert assign(groups).splits == assign(dict(reversed(groups.items()))).splits


@given(group_seconds, st.integers(1, 30))
def test_held_out_speech_stays_a_small_part(groups, minutes):
    splits, _ = assign(groups, dev=60.0 * minutes, test=60.0 * minutes)
    for name in "dev", "test":
        share = seconds_of(groups, splits, name) / max(1.0, sum(groups.values()))
        assert share <= 0.4 + 1e-9


def test_a_large_corpus_holds_out_what_was_asked():
    groups = {f"channel{i}": 600.0 + i for i in range(300)}
    splits, warnings = assign(groups)
    for name in "dev", "test":
        assert HOUR <= seconds_of(groups, splits, name) < HOUR + 900
    assert warnings == []


def test_another_salt_draws_other_groups():
    groups = {f"channel{i}": 600.0 for i in range(300)}
    one, two = assign(groups, salt="a").splits, assign(groups, salt="b").splits
    assert one != two


@given(
    st.dictionaries(st.integers(0, 10_000), st.floats(60, 1200), min_size=120, max_size=150),
    st.dictionaries(st.integers(10_001, 20_000), st.floats(60, 1200), max_size=50),
)
def test_what_was_trained_on_is_never_tested_on_after_more_is_collected(before, later):
    before = {f"channel{key}": seconds for key, seconds in before.items()}
    later = {f"channel{key}": seconds for key, seconds in later.items()}
    # A target below the tenth of the smaller corpus, so that the target is the same for both.
    target = 0.05 * sum(before.values())
    old = assign(before, dev=target, test=target).splits
    new = assign(before | later, dev=target, test=target).splits
    for group, split in old.items():
        assert new[group] in {split, "train"}


def test_fixed_groups_keep_their_split():
    groups = {f"channel{i}": 600.0 for i in range(100)}
    fixed = {"channel1": "test", "channel2": "dev", "channel3": "train"}
    for salt in "abcdef":
        splits = assign(groups, salt=salt, fixed=fixed).splits
        assert {group: splits[group] for group in fixed} == fixed


def test_an_earlier_assignment_can_be_kept_whole():
    groups = {f"channel{i}": 600.0 for i in range(100)}
    first = assign(groups).splits
    grown = groups | {f"new{i}": 600.0 for i in range(100)}
    second = assign(grown, dev=0, test=0, fixed=first).splits
    assert {group: second[group] for group in first} == first


def test_one_group_is_all_train_and_the_caller_is_told():
    splits, warnings = assign({"only": 10 * HOUR})
    assert splits == {"only": "train"}
    assert len(warnings) == 1
    assert "cannot be split" in warnings[0]


def test_three_equal_groups_give_one_to_each_split_and_the_caller_is_told():
    splits, warnings = assign({"a": 600.0, "b": 600.0, "c": 600.0})
    assert sorted(splits.values()) == ["dev", "test", "train"]
    assert warnings == [
        "test has 10.0 min instead of 60.0, of 30.0 min in all",
        "dev has 10.0 min instead of 60.0, of 30.0 min in all",
    ]


def test_a_giant_channel_is_trained_on():
    groups = {"giant": 50 * HOUR} | {f"small{i}": 600.0 for i in range(20)}
    for salt in "abcdefgh":
        splits, _ = assign(groups, salt=salt)
        assert splits["giant"] == "train"
        assert "dev" in splits.values()
        assert "test" in splits.values()


def test_a_split_that_no_group_suits_is_told_to_be_empty():
    splits, warnings = assign({"a": 50 * HOUR, "b": 50 * HOUR, "c": 60.0})
    assert sorted(splits.values()) == ["test", "train", "train"]
    assert "dev is empty: no group is small enough to be held out" in warnings


def test_nothing_is_held_out_where_nothing_is_asked():
    groups = {f"channel{i}": 600.0 for i in range(10)}
    assert set(assign(groups, dev=0, test=0).splits.values()) == {"train"}


def test_what_no_source_brings_is_carved_out_of_train():
    groups = {f"speaker{i}": 60.0 for i in range(50)}
    splits = {group: "test" if i < 3 else "train" for i, group in enumerate(groups)}
    asked = {"dev": 120.0, "test": 120.0}
    moved, warnings = carve(groups, splits, asked=asked, salt="s")
    assert set(moved.values()) == {"dev"}
    assert len(moved) == 2
    assert not warnings
    assert all(splits[group] == "train" for group in moved)


def test_nothing_is_carved_where_each_split_has_something_or_nothing_is_asked():
    groups = {f"speaker{i}": 60.0 for i in range(50)}
    splits = dict.fromkeys(groups, "train") | {"speaker1": "dev", "speaker2": "test"}
    assert carve(groups, splits, asked={"dev": 120.0, "test": 120.0}, salt="s").splits == {}
    splits = dict.fromkeys(groups, "train") | {"speaker2": "test"}
    assert carve(groups, splits, asked={"dev": 0.0, "test": 120.0}, salt="s").splits == {}
