"""The list of all segments: what it finds, in which order, and what a reviewer sees of others."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from corpus.catalogue import Catalogue, Recording, Score, Segment, segment_id
from review_app import browse, decisions, order
from review_app.accounts import Person
from review_app.browse import Listing
from review_app.queue import Filters

from .conftest import AddSegment
from .test_queue import decide

ALL = Filters()
ANNA, BERT, CARLA = Person("Anna"), Person("Bert"), Person("Carla", "adjudicator")


def listed(
    catalogue: Catalogue,
    person: Person = ANNA,
    filters: Filters = ALL,
    share: float = 0.0,
    **listing: Any,
) -> list[dict[str, Any]]:
    """The rows that a person gets; as many as are told."""
    list(order.refresh(catalogue, share))
    with catalogue.reading() as session:
        rows, total = browse.page(session, person, filters, Listing(**listing))
    assert len(rows) == total
    return rows


def texts(*arguments: Any, **listing: Any) -> list[str]:
    return [row["text"] for row in listed(*arguments, **listing)]


@pytest.fixture
def three(catalogue: Catalogue, add_segment: AddSegment) -> list[str]:
    """Segments of 4, 2 and 3 s: sure, doubtful, and with a subtitle that differs."""
    keys = [
        add_segment("long and sure", 0, 4000, logprob=-0.1, verdict="keep"),
        add_segment("short and doubtful", 4000, 6000, logprob=-2.0, verdict="review"),
        add_segment("between", 6000, 9000, logprob=-0.5, verdict="drop", subtitle="betwixt"),
    ]
    with catalogue.session() as session:
        subtitle = session.get_one(Segment, keys[2]).transcripts[0]
        subtitle.scores.append(Score(name="cer", value=0.4))
    return keys


def test_everything_is_listed_by_what_a_look_is_worth_unless_asked_otherwise(
    catalogue: Catalogue, three: list[str]
) -> None:
    assert texts(catalogue) == ["short and doubtful", "long and sure", "between"]
    assert texts(catalogue, sort="seconds") == ["long and sure", "between", "short and doubtful"]
    least_sure = ["short and doubtful", "between", "long and sure"]
    assert texts(catalogue, sort="logprob", descending=False) == least_sure
    assert texts(catalogue, sort="logprob") == least_sure[::-1]


def test_what_has_no_value_comes_last_whichever_way_it_is_sorted(
    catalogue: Catalogue, three: list[str]
) -> None:
    for descending in (True, False):
        assert texts(catalogue, sort="cer", descending=descending)[0] == "between"
    decide(catalogue, three[1], "accept")
    decide(catalogue, three[0], "reject", reason="bad_audio")
    newest_first = ["long and sure", "short and doubtful", "between"]
    assert texts(catalogue, sort="decided") == newest_first
    oldest_first = ["short and doubtful", "long and sure", "between"]
    assert texts(catalogue, sort="decided", descending=False) == oldest_first


def test_the_filters_of_the_queue_find_here_too(catalogue: Catalogue, three: list[str]) -> None:
    with catalogue.session() as session:
        session.add(
            Recording(
                id="youtube:x",
                source="youtube",
                channel="Rivers",
                channel_id="UC1",
                speaker="Eva",
                language="cs",
                licence="CC0-1.0",
                licence_evidence={},
                attribution="",
                redistributable=True,
                media_path="media/x.flac",
                duration_ms=9000,
            )
        )
        key = segment_id("youtube:x", 0, 1000)
        session.add(Segment(id=key, recording_id="youtube:x", start_ms=0, end_ms=1000))
    for filters in (
        Filters(source="youtube"),
        Filters(channel="Rivers"),
        Filters(channel="UC1"),
        Filters(speaker="Eva"),
        Filters(language="cs"),
    ):
        found = listed(catalogue, ANNA, filters)
        assert [row["segment_id"] for row in found] == [key]
        assert found[0]["text"] == ""  # nobody has labelled it
    assert texts(catalogue, ANNA, Filters(verdict="drop")) == ["between"]
    assert texts(catalogue, ANNA, Filters(q="BETWIXT")) == ["between"]  # the subtitle says so
    assert texts(catalogue, ANNA, Filters(q="100%_")) == []
    assert texts(catalogue, ANNA, Filters(q="a", verdict="keep", language="en")) == [
        "long and sure"
    ]


def test_it_is_told_and_found_how_a_segment_was_decided_and_by_whom(
    catalogue: Catalogue, three: list[str]
) -> None:
    decide(catalogue, three[0], "correct", text="long but wrong", reviewer="Anna")
    decide(catalogue, three[1], "skip", reviewer="Bert")
    decide(catalogue, three[2], "reject", reason="music_or_noise", reviewer="Bert")
    for state, expected in {
        "waiting": ["short and doubtful"],
        "decided": ["long but wrong", "between"],
        "accept": [],
        "correct": ["long but wrong"],
        "reject": ["between"],
        "skip": ["short and doubtful"],
    }.items():
        assert texts(catalogue, state=state) == expected, state
    assert texts(catalogue, reviewer="Bert") == ["short and doubtful", "between"]
    assert texts(catalogue, reviewer="Bert", state="decided") == ["between"]
    assert texts(catalogue, BERT, Filters(mine=True)) == ["short and doubtful"]
    assert texts(catalogue, ANNA, Filters(mine=True)) == []
    made = listed(catalogue, state="reject")[0]["decision"]
    assert (made["action"], made["reviewer"], made["reason"]) == (
        "reject",
        "Bert",
        "music_or_noise",
    )
    assert made["made_at"].endswith("+00:00")


def test_a_decision_that_was_taken_back_is_none(catalogue: Catalogue, three: list[str]) -> None:
    decide(catalogue, three[0], "correct", text="something else")
    with catalogue.session() as session:
        decisions.undo(session, "First")
    assert texts(catalogue, state="decided") == []
    assert "long and sure" in texts(catalogue)


def test_a_reviewer_learns_nothing_of_anothers_opinion_before_they_have_their_own(
    catalogue: Catalogue, three: list[str]
) -> None:
    """Two people are to decide every segment; an adjudicator may be one of them."""
    key, both = three[0], 1.0
    decide(catalogue, key, "correct", text="secret", reviewer="Anna", double_share=both)
    for person, sees in ((ANNA, "secret"), (CARLA, "long and sure"), (BERT, "long and sure")):
        row = next(r for r in listed(catalogue, person, share=both) if r["segment_id"] == key)
        assert (row["text"], row["decision"] is not None) == (sees, person is ANNA)
    for person, found in ((ANNA, ["secret"]), (CARLA, []), (BERT, [])):
        assert texts(catalogue, person, Filters(q="secret"), both) == found
        assert texts(catalogue, person, share=both, state="decided") == found
        assert texts(catalogue, person, share=both, reviewer="Anna") == found
    # What the verdict chose is not shown where it is the other's opinion.
    with catalogue.session() as session:
        segment = session.get_one(Segment, key)
        assert segment.verdict is not None
        segment.verdict.transcript_id = segment.transcripts[-1].id
    assert "secret" not in texts(catalogue, BERT, share=both)
    decide(catalogue, key, "accept", reviewer="Bert", double_share=both)
    for person in (BERT, CARLA):
        assert texts(catalogue, person, share=both, state="decided") == ["long and sure"]


def test_pages_go_on_where_the_one_before_ended(
    catalogue: Catalogue, add_segment: AddSegment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "PAGE_ROWS", 2)
    for number in range(5):
        add_segment(str(number), 1000 * number, 1000 * number + 500 + number)
    list(order.refresh(catalogue))
    found = []
    with catalogue.reading() as session:
        for number in range(1, 5):
            for filters in (Filters(), Filters(language="en")):
                listing = Listing(sort="seconds", page=number)
                rows, total = browse.page(session, ANNA, filters, listing)
                assert total == 5
            found.append([row["text"] for row in rows])
    assert found == [["4", "3"], ["2", "1"], ["0"], []]


def test_a_list_is_asked_for_over_http(client: TestClient, three: list[str]) -> None:
    """Also right after the segments came."""
    wish = {"sort": "seconds", "verdict": "review"}
    reply = client.get("/api/v1/browse", params=wish).json()
    assert (reply["total"], reply["page_rows"]) == (1, browse.PAGE_ROWS)
    (row,) = reply["rows"]
    assert (row["text"], row["seconds"]) == ("short and doubtful", 2.0)
    assert (row["verdict"], row["logprob"], row["cer"]) == ("review", -2.0, None)
    assert client.get(row["audio"]).headers["content-type"] == "audio/flac"
    part = client.get(row["audio"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)
    assert client.get("/api/v1/browse/choices").json() == {
        "source": ["files"],
        "channel": [],
        "speaker": [],
        "language": ["en"],
        "reviewer": [],
    }
    for wrong in ({"page": 0}, {"sort": "luck"}, {"state": "?"}):
        assert client.get("/api/v1/browse", params=wrong).status_code == 422


def test_a_walk_through_the_list_holds_up_no_decision(
    catalogue: Catalogue, three: list[str]
) -> None:
    list(order.refresh(catalogue))
    with catalogue.reading() as session:
        rows, _ = browse.page(session, ANNA, Filters(), Listing())
        decide(catalogue, three[0], "accept")  # in a transaction of its own
        assert rows[0]["decision"] is None
    assert texts(catalogue, state="decided") == ["long and sure"]
