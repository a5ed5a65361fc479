"""How far two people agree, by hand and by the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.catalogue import Catalogue, Decision, Transcript
from review_app.agreement import (
    Agreement,
    Opinion,
    Pair,
    agreement,
    by_reviewers,
    cohens_kappa,
    read_pairs,
)

from .conftest import AddSegment


def pair(
    first: str | None, second: str | None, names: str = "ab", judge: str | None = None
) -> Pair:
    return Pair("one", Opinion(names[0], first), Opinion(names[1], second), judge)


def test_kappa_is_that_of_an_example_worked_out_by_hand() -> None:
    # Of 50 both keep 20, both reject 15: p_o = 0.7. The first keeps 25 of 50, the second 30:
    # p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5, and (0.7 - 0.5) / (1 - 0.5) = 0.4.
    assert cohens_kappa(20, 5, 10, 15) == pytest.approx(0.4)


def test_kappa_is_undefined_where_both_only_ever_say_the_same_word() -> None:
    assert cohens_kappa(0, 0, 0, 0) is None
    assert cohens_kappa(9, 0, 0, 0) is None
    assert cohens_kappa(0, 0, 0, 9) is None
    assert cohens_kappa(9, 1, 0, 0) == 0.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_kappa_is_what_its_definition_says_and_the_same_with_raters_and_words_exchanged(
    votes: list[tuple[bool, bool]],
) -> None:
    counts = [votes.count(pair) for pair in ((True, True), (True, False), (False, True))]
    both, first, second = counts
    neither = len(votes) - sum(counts)
    found = cohens_kappa(both, first, second, neither)
    assert found == cohens_kappa(both, second, first, neither)
    assert found == cohens_kappa(neither, first, second, both)
    if len(set(votes)) < 2 and first + second == 0:
        assert found is None
        return
    shares = [sum(vote[rater] for vote in votes) / len(votes) for rater in (0, 1)]
    by_chance = shares[0] * shares[1] + (1 - shares[0]) * (1 - shares[1])
    agreed = (both + neither) / len(votes)
    assert found == pytest.approx((agreed - by_chance) / (1 - by_chance))
    assert -1 <= found <= 1 + 1e-9
    assert (found == 1) == (agreed == 1)


def test_texts_are_compared_where_both_keep_and_neither_is_the_reference() -> None:
    pairs = [
        pair("The plane.", "the plane"),
        pair("the delta", "the deltas here", judge="b"),
        pair("la la", None, judge="c"),
        pair(None, None),
    ]
    assert agreement(pairs) == Agreement(
        segments=4,
        both_keep=2,
        both_reject=1,
        kappa=pytest.approx(0.5),  # p_o = 0.75, p_e = 0.75 * 0.5 + 0.25 * 0.5
        cer=6 / ((9 + 9 + 9 + 15) / 2),
        exact=0.5,
        settled=2,
        settled_by_either=1,
    )
    assert agreement([]) == Agreement(0, 0, 0, None, None, None, 0, 0)


def test_each_two_people_are_told_by_themselves_whoever_came_first() -> None:
    pairs = [pair("x", None), pair(None, "x", names="ba"), pair("x", "x", names="ac")]
    found = by_reviewers(pairs)
    assert list(found) == [("a", "b"), ("a", "c")]
    assert (found["a", "b"].segments, found["a", "b"].kappa) == (2, 0.0)
    assert (found["a", "c"].exact, found["a", "c"].kappa) == (1.0, None)


def test_the_first_two_opinions_that_stand_count_and_an_adjudicator_is_told_apart(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    both, once, undone = (add_segment("text", start, start + 1000) for start in (0, 1000, 2000))

    def decide(key: str, reviewer: str, text: str | None, **wish: object) -> None:
        with catalogue.session() as session:
            made = Decision(segment_id=key, reviewer=reviewer, action="reject", **wish)
            if text is not None:
                typed = Transcript(segment_id=key, kind="review", origin=reviewer, text=text)
                session.add(typed)
                session.flush()
                made.action, made.transcript_id = "correct", typed.id
            session.add(made)

    decide(both, "First", "skipped", undone_by=9)
    decide(both, "Second", None)
    decide(both, "First", "typed")
    decide(both, "Second", "as the judge", adjudicates=True)
    decide(once, "First", "typed")
    decide(undone, "First", "typed")
    decide(undone, "Second", "typed", undone_by=9)
    with catalogue.session() as session:
        assert read_pairs(session) == [
            Pair(both, Opinion("Second", None), Opinion("First", "typed"), "Second")
        ]
