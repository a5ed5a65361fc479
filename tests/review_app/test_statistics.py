"""Figures of the review: pace, what labels were worth, and what is wrong in those nobody heard."""

import time
from datetime import date, datetime
from math import log
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from corpus.catalogue import Catalogue
from corpus.workspace import Workspace
from review_app import accounts, order, statistics
from review_app.accounts import Person
from review_app.app import create_app
from review_app.auth import Access
from review_app.statistics import Checked, Left, Made, error_left, pace, without_absences

from .conftest import AddSegment
from .test_queue import decide

TODAY = date(2026, 3, 2)
ADMIN = Person("Carla", "admin")


def computed(catalogue: Catalogue, person: Person = ADMIN) -> statistics.Statistics:
    list(order.refresh(catalogue))
    return statistics.compute(statistics.Reader(catalogue).rows(), person)


def made(*seconds: float | None, reviewer: str = "Anna", action: str = "accept") -> list[Made]:
    """Decisions on segments of 10 s."""
    return [Made(reviewer, action, TODAY, 10.0, one) for one in seconds]


# --- time


def test_the_pace_is_told_in_segments_and_in_audio() -> None:
    told = pace("Anna", TODAY, [*made(30, 60), *made(30, action="skip")])
    assert (told.accept, told.skip, told.audio_minutes, told.work_minutes) == (2, 1, 20 / 60, 2)
    assert told.segments_per_hour == 60
    assert told.audio_minutes_per_hour == pytest.approx(10)
    assert told.minutes_per_audio_hour == 360


def test_who_left_the_desk_did_not_work_meanwhile() -> None:
    worked = [one.work_s for one in without_absences(made(20, 22, 18, 150, 250, 9 * 3600))]
    assert worked == [20, 22, 18, 150, 22, 22]
    # What is long for one is not for another.
    slow = without_absences([*made(20, 20, 20), *made(90, 100, 250, reviewer="Bert")])
    assert [one.work_s for one in slow[3:]] == [90, 100, 250]


def test_without_a_time_that_says_anything_there_is_no_pace() -> None:
    for times in ([None, None], [9 * 3600]):
        told = pace("Anna", None, without_absences(made(*times)))
        assert told.accept == len(times)
        assert told.segments_per_hour is told.minutes_per_audio_hour is None
    told = pace("Anna", None, without_absences(made(30, None)))
    assert told.minutes_per_audio_hour == 180  # of the one that has a time


# --- errors


def test_the_cer_of_labels_is_what_people_changed_of_them(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one = add_segment("Abcdefghi", 0, 2000, logprob=log(0.97))
    two = add_segment("abcdefghi", 2000, 4000, logprob=log(0.55))
    three = add_segment("la la la", 4000, 6000, logprob=log(0.2))
    add_segment("nobody heard this", 6000, 8000, logprob=log(0.97))
    human = add_segment(None, 8000, 10_000, subtitle="by a human", verdict="review")
    decide(catalogue, one, "correct", text="abcdefghij.")  # one letter, and a dot and a case
    decide(catalogue, two, "accept")
    decide(catalogue, three, "reject", reason="music_or_noise")
    decide(catalogue, human, "correct", text="by some human")
    found = computed(catalogue)
    assert (found.errors.segments, found.errors.unchanged, found.errors.rejected) == (3, 1, 1)
    assert found.errors.cer == pytest.approx(1 / 19)
    assert found.errors.cer_as_written == pytest.approx(3 / 20)
    levels = {one.level: one for one in found.levels}
    assert levels["95–100 %"].cer == pytest.approx(1 / 10)
    assert levels["50–60 %"].cer == 0.0
    assert (levels["0–50 %"].cer, levels["0–50 %"].rejected) == (None, 1)
    assert found.error_left.segments == 1
    assert found.error_left.characters == len("nobody heard this")


def test_of_two_opinions_the_newer_one_that_stands_counts(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("abcd", 0, 2000)
    both = {"double_share": 1.0}
    decide(catalogue, key, "correct", text="abcx", reviewer="Anna", **both)
    decide(catalogue, key, "accept", reviewer="Bert", **both)
    found = computed(catalogue)
    assert (found.decided, found.errors.segments, found.errors.cer) == (1, 1, 0.0)
    assert [person.reviewer for person in found.people] == ["Anna", "Bert"]


def test_progress_is_told_by_verdict_in_segments_and_hours(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one = add_segment("one", 0, 6000, verdict="review")
    add_segment("two", 6000, 9000, verdict="review")
    add_segment("three", 9000, 12_000)
    decide(catalogue, one, "accept", lead_ms=30_000)
    found = computed(catalogue)
    assert (found.waiting, found.decided) == (2, 1)
    assert found.hours_decided == pytest.approx(6 / 3600)
    assert sorted(found.verdicts, key=lambda one: (one.verdict or "", one.decided)) == [
        (None, False, 1, pytest.approx(3 / 3600)),
        ("review", False, 1, pytest.approx(3 / 3600)),
        ("review", True, 1, pytest.approx(6 / 3600)),
    ]
    assert found.total.minutes_per_audio_hour == pytest.approx(300)
    assert [day.day for day in found.days] == [datetime.now().astimezone().date()]


def test_nothing_at_all_is_told_as_nothing(catalogue: Catalogue) -> None:
    found = computed(catalogue)
    assert (found.waiting, found.decided, found.people, found.levels) == (0, 0, [], [])
    assert found.errors.cer is found.error_left.cer is found.total.segments_per_hour is None
    assert found.error_left.why == "no pseudo-label is left unreviewed"


# --- the error left

RATES = (0.3, 0.2, 0.15, 0.1, 0.06, 0.03, 0.01)
"""Of characters, by level."""


def review(
    draw: np.random.Generator, share: list[float], recordings: int = 60
) -> tuple[list[Checked], list[Left], float]:
    """People have heard `share` of each level; also what is truly wrong in the rest."""
    checked, left = [], [[0, 0] for _ in RATES]
    wrong = 0
    for recording in range(recordings):
        hard = draw.lognormal(-0.08, 0.4)  # recordings differ; 1 in the mean
        for level in draw.integers(len(RATES), size=40):
            characters = int(draw.integers(20, 120))
            edits = int(draw.binomial(characters, min(0.9, hard * RATES[level])))
            if draw.random() < share[level]:
                checked.append(
                    Checked(f"r{recording}", level, False, edits, characters, edits, characters)
                )
            else:
                left[level][0] += 1
                left[level][1] += characters
                wrong += edits
    rest = [Left(level, *counts) for level, counts in enumerate(left)]
    return checked, rest, wrong / sum(one.characters for one in rest)


def test_the_estimate_is_right_though_the_doubtful_were_reviewed_first() -> None:
    doubtful_first = [0.9, 0.8, 0.6, 0.4, 0.2, 0.15, 0.15]
    within, plain_errors, its_errors = 0, [], []
    for seed in range(100):
        checked, left, truth = review(np.random.default_rng(seed), doubtful_first)
        found = error_left(checked, left)
        assert found.low < found.cer < found.high
        within += found.low <= truth <= found.high
        plain_errors.append(statistics.errors(None, checked).cer / truth - 1)
        its_errors.append(found.cer / truth - 1)
    assert within >= 88  # of 100; the truth lies in 95 of them on average
    assert abs(np.mean(its_errors)) < 0.03
    assert np.mean(plain_errors) > 0.5  # what one would get without levels


def test_it_is_the_same_each_time_it_is_asked_for() -> None:
    checked, left, _ = review(np.random.default_rng(0), [0.5] * 7)
    assert error_left(checked, left) == error_left(checked, left)


def test_rejects_are_foretold_by_level_too() -> None:
    checked = [
        Checked(f"r{i % 20}", level, i < part, 1, 100, 1, 100)
        for level, part in ((1, 40), (5, 10))
        for i in range(100)
    ]
    found = error_left(checked, [Left(1, 10, 900), Left(5, 90, 9000)])
    assert found.rejects == pytest.approx(0.1 * 0.4 + 0.9 * 0.1)


def test_it_is_told_why_there_is_no_estimate() -> None:
    """The sure ones are most of what is left, and nobody has heard any."""
    checked, _, _ = review(np.random.default_rng(0), [0.9, 0.9, 0.9, 0, 0, 0, 0])
    found = error_left(checked, [Left(0, 10, 1000), Left(6, 90, 9000)])
    assert (found.cer, found.low, found.covered) == (None, None, 0.1)
    assert "only 10% of the text" in str(found.why)
    without_confidence = error_left(checked, [Left(None, 10, 1000)])
    assert (without_confidence.cer, without_confidence.covered) == (None, 0.0)
    assert error_left([], [Left(0, 10, 1000)]).cer is None


def test_of_few_recordings_there_is_no_interval() -> None:
    checked, left, _ = review(np.random.default_rng(0), [0.7] * 7)
    few = [one._replace(recording_id=str(number % 4)) for number, one in enumerate(checked)]
    found = error_left(few, left)
    assert found.cer is not None
    assert (found.low, found.high) == (None, None)
    assert found.why == "no interval: what was reviewed is of fewer than 5 recordings"


# --- agreement


def test_agreement_is_told_of_all_and_of_each_two(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    """To those who settle disagreements only."""
    both = {"double_share": 1.0}
    one, two = add_segment("abcd", 0, 2000), add_segment("efgh", 2000, 4000)
    decide(catalogue, one, "accept", reviewer="Anna", **both)
    decide(catalogue, one, "correct", text="abce", reviewer="Bert", **both)
    assert computed(catalogue).agreed[0].figures.cer == pytest.approx(1 / 4)
    decide(catalogue, two, "accept", reviewer="Anna", **both)
    decide(catalogue, two, "accept", reviewer="Bert", **both)
    found = computed(catalogue).agreed
    assert [pair.reviewers for pair in found] == [[], ["Anna", "Bert"]]
    for pair in found:
        assert (pair.figures.segments, pair.figures.exact) == (2, 0.5)
    assert computed(catalogue, Person("Anna")).agreed == []


# --- who sees what


@pytest.fixture
def as_(workspace: Workspace, catalogue: Catalogue) -> Any:
    """A client signed in as a person of a role, named like it."""
    with catalogue.session() as session:
        for role in accounts.ROLES:
            accounts.add(session, role, role, "long enough")
    clients = []

    def sign_in(role: str) -> TestClient:
        client = TestClient(
            create_app(workspace, Access()), headers={"X-Requested-With": "test"}
        ).__enter__()
        clients.append(client)
        client.post("/sign-in", data={"name": role, "password": "long enough"})
        return client

    yield sign_in
    for client in clients:
        client.__exit__()


def test_a_reviewer_sees_the_own_pace_and_the_totals_others_everybodys(
    as_: Any, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    for number, name in enumerate(("reviewer", "adjudicator", "Somebody")):
        key = add_segment(f"text {number}", 2000 * number, 2000 * number + 1000)
        decide(catalogue, key, "accept", reviewer=name, lead_ms=5000)
    for role, sees in (
        ("reviewer", ["reviewer"]),
        ("adjudicator", ["Somebody", "adjudicator", "reviewer"]),
        ("admin", ["Somebody", "adjudicator", "reviewer"]),
    ):
        found = as_(role).get("/api/v1/statistics").json()
        assert [one["reviewer"] for one in found["people"]] == sees
        assert [one["reviewer"] for one in found["days"]] == sees
        assert (found["decided"], found["total"]["accept"]) == (3, 3)
        assert found["total"]["work_minutes"] == pytest.approx(0.25)


def test_nobody_sees_them_without_signing_in(as_: Any) -> None:
    client = as_("reviewer")
    client.cookies.clear()
    assert client.get("/api/v1/statistics").status_code == 401


def test_what_was_read_a_moment_ago_is_good_for_a_while_only(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("text", 0, 2000)
    reader = statistics.Reader(catalogue)
    assert reader.rows().made == []
    decide(catalogue, key, "accept")
    deadline = time.monotonic() + 30
    while not reader.rows().made:
        assert time.monotonic() < deadline
        time.sleep(0.05)
