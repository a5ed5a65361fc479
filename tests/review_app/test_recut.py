"""Splits, merges and moved bounds, and how the rest of the program meets them."""

from typing import Any

from fastapi.testclient import TestClient

from corpus.catalogue import Catalogue, Segment
from corpus.evidence import read_all
from corpus.status import status

from .conftest import AddSegment


def ids(catalogue: Catalogue) -> list[str]:
    """The segments that verdicts are made of, and so datasets."""
    return [evidence.id for evidence in read_all(catalogue, "")]


def first(client: TestClient) -> dict[str, Any]:
    item: dict[str, Any] = client.get("/api/v1/next").json()["item"]
    return item


def accept(client: TestClient, item: dict[str, Any], **wish: object) -> Any:
    body = {
        "segment_id": item["segment_id"],
        "transcript_id": item["transcript_id"],
        "version": item["version"],
        "action": "accept",
        "client_id": f"of {item['segment_id']}",
    }
    return client.post("/api/v1/decide", json=body | wish)


def test_a_split_makes_two_to_be_decided_and_undo_brings_the_whole_back(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    whole = add_segment("one two", 0, 4000, verdict="keep")
    item = first(client)
    body = {
        "segment_id": whole,
        "version": item["version"],
        "at_ms": 1500,
        "texts": ["one", "two"],
        "client_id": "the first cut",
    }
    parts = client.post("/api/v1/split", json=body).json()["items"]
    assert [(one["start_ms"], one["end_ms"], one["text"]) for one in parts] == [
        (0, 1500, "one"),
        (1500, 4000, "two"),
    ]
    assert all(part["lease"] for part in parts)
    assert ids(catalogue) == [part["segment_id"] for part in parts]
    found = status(catalogue)
    assert (found["segments"], found["unlabelled"], found["verdicts"]) == (2, 2, [])
    assert client.get(f"/api/v1/segments/{whole}").status_code == 404
    assert client.get("/api/v1/next").json()["waiting"] == 2

    again = client.post("/api/v1/undo").json()["item"]
    assert (again["segment_id"], again["text"]) == (whole, "one two")
    assert ids(catalogue) == [whole]
    assert client.get("/api/v1/next").json()["waiting"] == 1
    body |= {"version": again["version"], "client_id": "the second cut"}
    assert len(client.post("/api/v1/split", json=body).json()["items"]) == 2


def test_what_came_of_a_split_and_is_decided_stays(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    whole = add_segment("one two", 0, 4000)
    body = {"segment_id": whole, "at_ms": 1500, "texts": ["one", "two"], "client_id": "the cut."}
    parts = client.post("/api/v1/split", json=body).json()["items"]
    assert accept(client, parts[0]).status_code == 200
    assert client.post("/api/v1/undo").json()["item"]["segment_id"] == parts[0]["segment_id"]
    assert client.post("/api/v1/undo").json()["item"]["segment_id"] == whole


def test_a_merge_joins_the_texts_of_two(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    one, two = add_segment("one", 0, 4000), add_segment("two", 4200, 6000)
    body = {"segment_id": one, "client_id": "the merge"}
    (whole,) = client.post("/api/v1/merge", json=body).json()["items"]
    assert (whole["text"], whole["start_ms"], whole["end_ms"]) == ("one two", 0, 6000)
    assert ids(catalogue) == [whole["segment_id"]]
    further = {"segment_id": whole["segment_id"], "client_id": "another merge"}
    assert client.post("/api/v1/merge", json=further).status_code == 422  # there is no next one
    assert client.post("/api/v1/undo").json()["item"]["segment_id"] == one
    assert ids(catalogue) == [one, two]


def test_a_correction_of_bounds_is_a_new_segment_that_takes_over(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    old = add_segment("one", 1000, 4000)
    item = first(client)
    for _ in range(2):  # the second time is the same decision
        assert accept(client, item, start_ms=900, end_ms=4100).status_code == 200
    (evidence,) = read_all(catalogue, "")
    assert (evidence.id, evidence.seconds) == ("files:tone@900-4100", 3.2)
    assert evidence.decided is not None
    assert evidence.decided[0] == "accept"
    assert client.post("/api/v1/undo").json()["item"]["segment_id"] == old
    assert ids(catalogue) == [old]


def test_bounds_that_make_no_segment_are_refused_and_change_nothing(
    client: TestClient, catalogue: Catalogue, add_segment: AddSegment
) -> None:
    key = add_segment("one", 1000, 4000)
    item = first(client)
    for start, end in ((4000, 1000), (-5, 4000), (1000, 20_001), (1000, 1050)):
        assert accept(client, item, start_ms=start, end_ms=end).status_code == 422
    body = {"segment_id": key, "at_ms": 2000, "texts": ["one", " "], "client_id": "the cut."}
    assert client.post("/api/v1/split", json=body).status_code == 422
    body |= {"at_ms": 5000, "texts": ["one", "two"]}
    assert client.post("/api/v1/split", json=body).status_code == 422
    with catalogue.session() as session:
        assert session.get_one(Segment, key).decisions == []
    assert ids(catalogue) == [key]
