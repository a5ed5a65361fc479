"""Which segment is next, and what a decision stores."""

import pytest
from sqlalchemy import insert

from corpus.catalogue import Catalogue, Decision, Recording, Score, Segment, Transcript
from corpus.errors import UserError
from review_app import decisions, order, queue, standing

from .conftest import AddSegment


def decide(catalogue: Catalogue, segment_id: str, action: str, **wish: object) -> Decision:
    """Decide about the transcript that the queue would show."""
    with catalogue.session() as session:
        segment = session.get_one(Segment, segment_id)
        shown = standing.shown_transcript(segment)
        request = {
            "reviewer": "First",
            "segment_id": segment_id,
            "transcript_id": shown.id if shown else None,
            "action": action,
            "client_id": f"{segment_id}/{action}/{wish.get('reviewer')}",
        }
        return decisions.decide(session, **(request | wish))


def handed_out(catalogue: Catalogue, reviewer: str) -> list[str]:
    """The texts in the order in which the queue hands them out."""
    texts, held = [], []
    list(order.refresh(catalogue))
    with catalogue.session() as session:
        while (segment := queue.next_segment(session, reviewer, held)) is not None:
            shown = standing.shown_transcript(segment)
            texts.append(shown.text if shown else "")
            held.append(segment.id)
        assert queue.count_waiting(session) == len(texts)
    return texts


def transcripts(catalogue: Catalogue, segment_id: str) -> list[tuple[str, str, str]]:
    with catalogue.session() as session:
        found = session.get_one(Segment, segment_id).transcripts
        return [(one.kind, one.origin, one.text) for one in found]


def test_borderline_segments_come_first_longest_first_then_the_least_sure(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("quite sure", 0, 2000, logprob=-0.2, verdict="keep")
    add_segment("dropped", 2000, 4000, logprob=-3.0, verdict="drop")
    add_segment("short and borderline", 4000, 5000, verdict="review")
    add_segment("not judged and unsure", 5000, 7000, logprob=-0.9)
    add_segment("long and borderline", 7000, 12_000, verdict="review")
    add_segment(None, 12_000, 13_000, verdict="keep", subtitle="a subtitle that is kept")
    assert handed_out(catalogue, "First") == [
        "long and borderline",
        "short and borderline",
        "not judged and unsure",
        "quite sure",
        "dropped",
    ]


def test_what_models_are_tested_on_comes_first_among_its_like(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("kept, trained on", 0, 5000, verdict="keep")
    tested = add_segment("kept, tested on", 5000, 6000, verdict="keep")
    add_segment("borderline, trained on", 6000, 7000, verdict="review")
    with catalogue.session() as session:
        recording = session.get_one(Segment, tested).recording
        columns = {c.name: getattr(recording, c.name) for c in Recording.__table__.columns}
        session.add(Recording(**columns | {"id": "files:tested", "held_out": True}))
        session.flush()
        session.get_one(Segment, tested).recording_id = "files:tested"
    assert handed_out(catalogue, "First") == [
        "borderline, trained on",
        "kept, tested on",
        "kept, trained on",
    ]


def test_a_decided_segment_leaves_the_queue_of_everybody(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    first = add_segment("one", 0, 3000, verdict="review")
    add_segment("two", 3000, 5000, verdict="review")
    decide(catalogue, first, "accept")
    assert handed_out(catalogue, "First") == handed_out(catalogue, "Second") == ["two"]


def test_a_skipped_segment_moves_to_the_end_for_the_one_who_skipped_it(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one = add_segment("one", 0, 4000, verdict="review")
    two = add_segment("two", 4000, 7000, verdict="review")
    add_segment("three", 7000, 9000)
    decide(catalogue, two, "skip")
    decide(catalogue, one, "skip")
    assert handed_out(catalogue, "First") == ["three", "two", "one"]
    assert handed_out(catalogue, "Second") == ["one", "two", "three"]
    assert decide(catalogue, one, "accept").action == "accept"


def test_the_transcript_that_the_verdict_chose_is_shown(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("what the model heard", subtitle="what the subtitle says", verdict="review")
    assert handed_out(catalogue, "First") == ["what the model heard"]
    with catalogue.session() as session:
        segment = session.get_one(Segment, key)
        assert segment.verdict is not None
        segment.verdict.transcript_id = segment.transcripts[0].id
    assert handed_out(catalogue, "First") == ["what the subtitle says"]


def test_a_correction_adds_a_transcript_and_keeps_what_was_shown(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("the plane bellow")
    decision = decide(catalogue, key, "correct", text="  the plain\n below\u200b ")
    assert (decision.action, decision.before) == ("correct", "the plane bellow")
    assert transcripts(catalogue, key) == [
        ("pseudo", "small@1234", "the plane bellow"),
        ("review", "First", "the plain below"),
    ]
    with catalogue.session() as session:
        review = session.get_one(Transcript, decision.transcript_id)
        assert review.text == "the plain below"


def test_an_accept_and_an_unchanged_correction_are_both_an_accept(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one, two = add_segment("as it is", 0, 1000), add_segment("so be it", 1000, 2000)
    assert decide(catalogue, one, "accept").action == "accept"
    assert decide(catalogue, two, "correct", text="so be it ").action == "accept"
    assert transcripts(catalogue, one)[-1] == ("review", "First", "as it is")
    assert transcripts(catalogue, two)[-1] == ("review", "First", "so be it")


def test_a_reject_stores_its_reason_and_no_transcript(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("la la la")
    decision = decide(catalogue, key, "reject", reason="music_or_noise", text="typed before")
    assert (decision.reason, decision.before, decision.transcript_id) == (
        "music_or_noise",
        "la la la",
        None,
    )
    assert len(transcripts(catalogue, key)) == 1


def test_the_same_request_twice_is_one_decision(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("once")
    first = decide(catalogue, key, "correct", text="only once", client_id="browser-0001")
    again = decide(catalogue, key, "correct", text="only once", client_id="browser-0001")
    assert first.id == again.id
    assert len(transcripts(catalogue, key)) == 2


def test_a_client_id_of_another_decision_is_a_conflict(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one, two = add_segment("one", 0, 1000), add_segment("two", 1000, 2000)
    decide(catalogue, one, "accept", client_id="browser-0001")
    with pytest.raises(standing.Conflict, match="another decision"):
        decide(catalogue, two, "accept", client_id="browser-0001")


def test_the_second_reviewer_of_a_segment_gets_a_conflict_that_names_the_first(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("once")
    decide(catalogue, key, "accept", reviewer="Second")
    with pytest.raises(standing.Conflict, match="Second has already decided"):
        decide(catalogue, key, "correct", text="twice")
    assert len(transcripts(catalogue, key)) == 2


@pytest.mark.parametrize(
    ("action", "wish", "message"),
    [
        ("correct", {"text": " \u200b "}, "no text"),
        ("correct", {}, "no text"),
        ("reject", {"reason": "do not like it"}, "needs a reason"),
        ("reject", {}, "needs a reason"),
        ("delete", {}, "unknown action"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(
    catalogue: Catalogue, add_segment: AddSegment, action: str, wish: dict[str, str], message: str
) -> None:
    key = add_segment("text")
    with pytest.raises(UserError, match=message):
        decide(catalogue, key, action, **wish)
    assert handed_out(catalogue, "First") == ["text"]


def test_a_segment_without_any_transcript_can_be_typed_but_not_accepted(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment(None, verdict="review")
    with pytest.raises(UserError, match="no text"):
        decide(catalogue, key, "accept")
    assert decide(catalogue, key, "correct", text="from scratch").before is None


def test_the_first_of_ten_thousand_segments_is_the_borderline_one(
    catalogue: Catalogue, add_segment: AddSegment
) -> None:
    add_segment("first", 0, 1000, verdict="review")
    numbers = range(2, 10_002)
    with catalogue.session() as session:
        session.execute(
            insert(Segment),
            [
                {"id": f"s{n}", "recording_id": "files:tone", "start_ms": 0, "end_ms": n}
                for n in numbers
            ],
        )
        session.execute(
            insert(Transcript),
            [
                {"id": n, "segment_id": f"s{n}", "kind": "pseudo", "origin": "m", "text": ""}
                for n in numbers
            ],
        )
        session.execute(
            insert(Score),
            [{"transcript_id": n, "name": "avg_logprob", "value": -1.0} for n in numbers],
        )
    list(order.refresh(catalogue))
    with catalogue.session() as session:
        segment = queue.next_segment(session, "First")
        assert queue.count_waiting(session) == 10_001
    assert segment is not None
    assert segment.id == "files:tone@0-1000"


@pytest.mark.parametrize("near", [0, 1, 2, 1000])
def test_words_are_found_wherever_in_the_queue_they_are_the_first_of_it_first(
    catalogue: Catalogue, add_segment: AddSegment, monkeypatch: pytest.MonkeyPatch, near: int
) -> None:
    monkeypatch.setattr(queue, "NEAR", near)
    add_segment("a common word", 0, 4000)
    add_segment("a common one", 4000, 7000)
    add_segment("a rare and common word", 7000, 9000)
    list(order.refresh(catalogue))
    with catalogue.session() as session:
        for words, expected in (
            ("common", 0),
            ("one", 4000),
            ("RARE", 7000),
            ("absent", None),
        ):
            found = queue.next_segment(session, "First", (), queue.Filters(q=words))
            assert (found and found.start_ms) == expected, words
        skipped = queue.next_segment(session, "First", (), queue.Filters(q="rare"))
        assert skipped is not None
    decide(catalogue, skipped.id, "skip")
    with catalogue.session() as session:
        for words, expected in (("rare", 7000), ("one", 4000)):
            found = queue.next_segment(session, "First", (), queue.Filters(q=words))
            assert (found and found.start_ms) == expected, words
