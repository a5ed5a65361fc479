"""Rates are jiwer's, intervals cover the truth as often as they say, timestamps are judged."""

import jiwer
import numpy as np
import pytest

from corpus.text import normalise, whisper_normalise
from train import metrics
from train.metrics import Timed, count, paired_difference, rate, resample, split_edits

REFERENCES = ["One, two three.", "four five", "नमस्ते दुनिया", "six"]
HYPOTHESES = ["one too three", "", "नमस्ते दुनिया", "six seven  eight"]


def test_edits_agree_with_a_case_counted_by_hand() -> None:
    words, characters = count(["a b c d"], ["a x c d e"])[0, 0]
    assert words.tolist() == [4, 1, 0, 1]
    assert characters.tolist() == [7, 1, 0, 2]


@pytest.mark.parametrize(
    ("form", "change"),
    [("normalised", normalise), ("written", str), ("whisper", whisper_normalise)],
)
def test_rates_are_jiwers_in_every_form(form: str, change: object) -> None:
    assert callable(change)
    references, hypotheses = ([change(t) for t in texts] for texts in (REFERENCES, HYPOTHESES))
    wer, cer = rate(count(REFERENCES, HYPOTHESES))[list(metrics.FORMS).index(form)]
    assert wer == pytest.approx(jiwer.wer(references, hypotheses))
    assert cer == pytest.approx(jiwer.cer(references, hypotheses))


def test_a_rate_without_references_is_no_number() -> None:
    assert np.isnan(rate(count(["", "..."], ["one", ""]))[0]).all()


def test_parts_are_rated_by_themselves() -> None:
    edits = count(REFERENCES, HYPOTHESES)
    parts = rate(split_edits(edits, [np.array([0, 2]), np.array([1, 3])]))
    assert parts[0] == pytest.approx(rate(edits[[0, 2]]))
    assert parts[1] == pytest.approx(rate(edits[[1, 3]]))


def simulated(chance: np.random.Generator, speakers: int, spread: float) -> tuple[np.ndarray, list]:
    """Edits of ten utterances of each speaker; the true error rate is 30 %, a speaker's own is
    around it by `spread`."""
    edits, names = [], []
    for speaker in range(speakers):
        own = np.clip(chance.normal(0.3, spread), 0.01, 0.99)
        for _ in range(10):
            words = int(chance.integers(4, 20))
            edits.append([words, chance.binomial(words, own), 0, 0])
            names.append(f"speaker-{speaker}")
    return np.array(edits), names


def covered(trials: int, *, by_speaker: bool) -> float:
    """How often the interval covers the truth."""
    times = 0
    for seed in range(trials):
        edits, speakers = simulated(np.random.default_rng(seed), 30, 0.1)
        none: list[str | None] = [None] * len(edits)
        how = resample([""] * len(edits), speakers if by_speaker else none, none)
        low, high = metrics.interval(how.drawn_rates(edits))
        times += low <= 0.3 <= high
    return times / trials


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    # 30 speakers make a percentile interval a little narrow.
    assert 0.90 <= covered(150, by_speaker=True) <= 0.99
    # And utterances of a speaker are not drawn one by one, as if each were another's.
    assert covered(40, by_speaker=False) < 0.75


def test_speakers_are_drawn_only_where_every_source_has_enough() -> None:
    none: list[str | None] = [None] * 24
    many = [f"speaker-{n}" for n in range(24)]
    assert resample(["a"] * 24, many, none).unit == "speakers"
    assert resample(["a"] * 24, [*many[:-1], None], many).unit == "recordings"
    few = resample(["a"] * 20 + ["b"] * 4, many, none)
    assert (few.unit, few.groups) == ("utterances", 24)


def test_sources_keep_their_sizes_in_every_draw() -> None:
    """With one rate in each source, the rate of all does not move."""
    edits = np.array([[10, 1, 0, 0]] * 30 + [[10, 9, 0, 0]] * 30)
    none: list[str | None] = [None] * 60
    drawn = resample(["a"] * 30 + ["b"] * 30, none, none).drawn_rates(edits)
    assert drawn == pytest.approx(0.5)


def test_a_difference_is_judged_on_the_same_texts() -> None:
    chance = np.random.default_rng(0)
    errors = chance.integers(0, 20, 200)
    first = np.stack([np.full(200, 20), errors, 0 * errors, 0 * errors], axis=1)
    better = first.copy()
    better[:, 1] = np.maximum(0, errors - (chance.random(200) < 0.3))
    none: list[str | None] = [None] * 200
    how = resample([""] * 200, none, none)
    found = paired_difference(first, better, how)
    # One by one the intervals overlap widely; text by text one is hardly ever the worse.
    assert metrics.interval(how.drawn_rates(better)).high > rate(first)
    assert found.interval.high < 0
    assert found.p <= 0.001
    assert found.better == 1
    assert found.difference == pytest.approx((better[:, 1].sum() - errors.sum()) / 4000)
    same = paired_difference(first, first, how)
    assert (same.difference, same.p, same.better) == (0, 1, 0.5)


def test_chance_alone_is_called_significant_as_seldom_as_the_level_says() -> None:
    times = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        models = [
            np.stack([np.full(100, 10), chance.binomial(10, 0.3, 100), *np.zeros((2, 100), int)], 1)
            for _ in range(2)
        ]
        none: list[str | None] = [None] * 100
        times += paired_difference(*models, resample([""] * 100, none, none)).p < 0.05
    assert times / 100 < 0.1


@pytest.mark.parametrize(
    ("spans", "valid"),
    [
        ([Timed(0.0, 1.0), Timed(1.0, 2.2)], True),
        ([], True),
        ([Timed(0.0, None)], False),
        ([Timed(0.5, 0.5)], False),
        ([Timed(0.0, 1.0), Timed(0.8, 1.5)], False),
        ([Timed(0.0, 2.3)], False),
    ],
)
def test_timestamps_are_valid_if_closed_in_order_and_inside(
    spans: list[Timed], valid: bool
) -> None:
    assert metrics.are_valid(spans, 2.0) is valid


def test_boundaries_are_compared_with_the_nearest_of_their_kind() -> None:
    known = [Timed(0.0, 1.0), Timed(1.5, 3.0)]
    heard = [Timed(0.1, 1.2), Timed(1.4, None)]
    assert metrics.boundary_errors(known, heard) == pytest.approx([0.1, 0.1, 0.2, 1.8])
    assert metrics.boundary_errors(known, []) == []
