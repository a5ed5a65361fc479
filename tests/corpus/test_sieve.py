"""The sieve: it never lets through what is known, and stops most of what is not."""

import random

from hypothesis import given
from hypothesis import strategies as st

from corpus.sieve import BATCH_TEXTS, Sieve
from corpus.words import plain, units

RUN_WORDS = 4

letters = st.sampled_from("abꙗйა我ก\u0301\u200d.,'\u2014 \n\U0001f600\U0001d7d8")
some_texts = st.lists(st.text(letters, max_size=40).map(plain), max_size=12)


def runs(text: str) -> set[tuple[str, ...]]:
    words = units(text)
    return {tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)}


@given(some_texts, some_texts)
def test_texts_with_the_words_or_a_run_of_words_of_a_known_one_are_never_passed_over(
    known: list[str], texts: list[str]
) -> None:
    known_words = [units(text) for text in known]
    known_runs = {run for text in known for run in runs(text)}
    for text, may_know in zip(texts, Sieve(known, RUN_WORDS).may_know(texts), strict=True):
        if units(text) in known_words or runs(text) & known_runs:
            assert may_know


def test_of_unknown_sentences_hardly_any_has_to_be_looked_at() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("aeiklmnoprst", k=rng.randint(1, 9))) for _ in range(2000)]
    sentences = [" ".join(rng.choices(words, k=11)) for _ in range(4 * BATCH_TEXTS)]
    known, unknown = sentences[: 2 * BATCH_TEXTS], sentences[2 * BATCH_TEXTS :]
    sieve = Sieve(known, RUN_WORDS)
    assert all(sieve.may_know(known))
    assert sum(sieve.may_know(unknown)) < 0.02 * len(unknown)


def test_scripts_without_words_are_always_looked_at() -> None:
    assert Sieve([], 8).may_know(["今天的天气非常好所以我们决定一起去公园散步"]) == [True]
